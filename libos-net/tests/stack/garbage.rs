//! Frames that make no sense.

use libos_net::Link;
use proptest::prelude::*;
use smoltcp::wire::Ipv4Address;

use crate::storm::syn;
use crate::traffic::{Asker, Echo};
use crate::world::World;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_changes_nothing(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        edits in prop::collection::vec((0..54usize, any::<u8>(), 0..60usize), 1..200),
    ) {
        let mut world = World::new();
        let mut echo = Echo::new(&mut world);
        let good = syn(world.server.link().address(), Ipv4Address::new(10, 0, 0, 77), 99);
        for frame in &frames {
            world.client.link_mut().inject(frame);
        }
        // Nearly right is worse than random: changed in one byte, cut off anywhere.
        for (place, value, length) in edits {
            let mut frame = good.clone();
            frame[place] = value;
            frame.truncate(length);
            world.client.link_mut().inject(&frame);
            world.turn(|stack| echo.serve(stack), |_| ());
        }
        let mut asker = Asker::new(5, 5);
        for _ in 0..2000 {
            if asker.done() {
                break;
            }
            world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
        }
        prop_assert_eq!(asker.answered, 5);
    }
}

//! The web server, asked by clients of the host.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::{Board, Guest, http};

/// What the server says once it can be reached.
const SERVING: &str = "serving http://";

/// The entry of `label` among the environments of `/state.json`.
fn environment<'a>(state: &'a Value, label: &str) -> Result<&'a Value> {
    let entries = state["environments"].as_array().context("no environments")?;
    entries.iter().find(|entry| entry["label"] == label).with_context(|| format!("no {label}"))
}

fn serves_people_and_programs(board: Board) -> Result<()> {
    let guest = Guest::with(["web"]).board(board).linger().boot()?;
    guest.wait_for(SERVING)?;
    let address = guest.address(80)?;
    let page = http::get(address, "/")?;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(String::from_utf8(page.body)?.contains("web"));
    assert_eq!(http::get(address, "/no-such-page")?.status, 404);
    let state = http::get(address, "/state.json")?.json()?;
    let outcome = guest.stop()?;

    // What the page said is what the console says at the end: nothing else ran in between.
    let end = outcome.tables.context("no tables at the end")?;
    let entries = end["environments"].as_array().context("no environments at the end")?;
    let last = entries.iter().find(|entry| entry["label"] == "web").context("no web at the end")?;
    let first = environment(&state, "web")?;
    assert_eq!(first["frames"]["held"], last["frames"]);
    assert_eq!(first["frames"]["limit"], last["frames_limit"]);
    assert_eq!(first["filters"], last["filters"]);
    assert_eq!(first["slices"], last["slices"]);
    assert_eq!(state["system"]["frames_total"], end["system"]["frames_total"]);
    Ok(())
}

#[test]
fn microvm_serves_people_and_programs() -> Result<()> {
    serves_people_and_programs(Board::Microvm)
}

#[test]
fn q35_serves_people_and_programs() -> Result<()> {
    serves_people_and_programs(Board::Q35)
}

#[test]
fn an_address_comes_by_dhcp() -> Result<()> {
    let guest = Guest::with(["web"]).args("web", "dhcp").linger().boot()?;
    guest.wait_for("serving http://10.0.2.15")?;
    assert_eq!(http::get(guest.address(80)?, "/")?.status, 200);
    guest.stop()?;
    Ok(())
}

/// `count` requests, `at_once` of them at a time, alternating between the two pages. Each answer
/// has to be whole and right.
fn ask(address: SocketAddr, count: usize, at_once: usize) -> Result<()> {
    let ask_one = |number: usize| -> Result<()> {
        if number.is_multiple_of(2) {
            let page = http::get(address, "/")?;
            ensure!(page.status == 200 && page.body.ends_with(b"</html>\n"), "a broken page");
        } else {
            let state = http::get(address, "/state.json")?;
            ensure!(state.status == 200, "status {}", state.status);
            environment(&state.json()?, "web")?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..at_once)
            .map(|client| {
                let numbers = (client..count).step_by(at_once);
                scope.spawn(move || {
                    numbers.into_iter().try_for_each(|number| {
                        ask_one(number).with_context(|| format!("request {number}"))
                    })
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client panicked"))
    })
}

#[test]
fn a_thousand_requests_are_right_while_frames_are_revoked() -> Result<()> {
    let guest = Guest::with(["web", "pages", "deaf", "broker"])
        .args("pages", "policy=clock pages=1024 passes=1000000")
        .args("broker", "victims=deaf,pages,web frames=4 notice=10 period=10 report=50")
        .linger()
        .boot()?;
    guest.wait_for(SERVING)?;
    guest.wait_for("broker: asked web")?;
    let address = guest.address(80)?;
    ask(address, 1000, 20)?;
    let state = http::get(address, "/state.json")?.json()?;
    let asks = environment(&state, "web")?["asks"].as_u64().context("no asks")?;
    assert!(asks > 10, "web was asked {asks} times only");
    guest.stop()?;
    Ok(())
}

#[test]
fn hostile_clients_do_not_keep_others_waiting() -> Result<()> {
    let guest = Guest::with(["web"]).linger().boot()?;
    guest.wait_for(SERVING)?;
    let address = guest.address(80)?;
    // Clients that connect and say nothing, or never end their question, and go on holding.
    let silent: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(address)).collect();
    assert_eq!(http::exchange(address, &[0xff; 64])?.get(..12), Some(&b"HTTP/1.1 400"[..]));
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 100_000]].concat();
    // Refused in the middle: how much of the answer arrives is up to the host.
    let _ = http::exchange(address, &endless);
    ask(address, 40, 4)?;
    drop(silent);
    guest.stop()?;
    Ok(())
}

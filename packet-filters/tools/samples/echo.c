/* A handler that sends UDP datagrams back to where they came from, and counts them.
 * cargo xtask ebpf packet-filters/tools/samples/echo.c */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* What a handler can call: the kernel knows them by name. */
extern u64 take(const u8 *from, u64 length);
extern u64 copy(const u8 *from, u64 length, u8 *to);
extern u64 reply(u64 length);

#define AT(type, place) (*(type *)(place))

static void exchange(u8 *frame)
{
    u32 link = AT(u32, frame), from = AT(u32, frame + 26);
    u16 rest = AT(u16, frame + 4), port = AT(u16, frame + 34);

    AT(u32, frame) = AT(u32, frame + 6);
    AT(u16, frame + 4) = AT(u16, frame + 10);
    AT(u32, frame + 6) = link;
    AT(u16, frame + 10) = rest;
    AT(u32, frame + 26) = AT(u32, frame + 30);
    AT(u32, frame + 30) = from;
    AT(u16, frame + 34) = AT(u16, frame + 36);
    AT(u16, frame + 36) = port;
    AT(u16, frame + 40) = 0; /* no checksum */
}

u64 handler(const u8 *packet, u64 length, u64 *state, u8 *answer, u64 filter)
{
    state[0]++;
    if (length < 42 || AT(u16, packet + 12) != 0x0008 || packet[23] != 17)
        return 0;
    take(packet, length);
    exchange(answer);
    return reply(length);
}

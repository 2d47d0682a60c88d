//! The life of a packet.

use aya_ebpf::{
    bindings::{xdp_action::XDP_PASS, xdp_md},
    helpers::generated::{bpf_jiffies64, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use gateway_common::{
    address::Wide,
    control::Control,
    hash::{hash_v4, hash_wide},
    packet::{self, Fragment, ICMP6},
    reason::{Part, Proto, Reason},
    stats::CpuStats,
};

use crate::{
    ban, extensions, feed,
    flood::{self, is_syn},
    limit,
    maps::CONTROL,
    packet::Packet,
    port,
    scene::{on, record},
    verdict::{Finding, carry_out, pass},
};

/// Judges one packet. `FRAGS`: the frame may go on in further buffers.
#[inline(always)]
pub fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    let (Some(control), Some(record)) = (CONTROL.get(0), record()) else { return XDP_PASS };
    let ctx = ctx.ctx;
    let packet = if FRAGS { Packet::new(ctx) } else { Packet::whole(ctx) };
    // SAFETY: a helper without arguments, and one that takes the kernel's context.
    let (jiffies, length) = unsafe {
        (bpf_jiffies64(), if FRAGS { bpf_xdp_get_buff_len(ctx) as u32 } else { packet.readable() })
    };
    let scene = &mut record.scene;
    scene.jiffies = jiffies;
    scene.length = length;
    scene.modes = control.modes_at(jiffies).0;
    scene.proto = Proto::Unparsed as u32;
    scene.protocol = 0;
    scene.ports = 0;
    scene.tcp_flags = 0;
    if scene.modes == 0 {
        return pass(record, Reason::Off);
    }
    let packet = Judged { ctx, control, packet };
    let link = packet::link(&packet.packet);
    if let Some(fault) = link.fault {
        return packet.no_address(record, fault);
    }
    match link.ether_type {
        packet::IPV4 => packet.v4(record, link.offset),
        packet::IPV6 => packet.v6(record, link.offset),
        _ => {
            record.scene.proto = Proto::NotIp as u32;
            pass(record, Reason::NotIp)
        }
    }
}

struct Judged {
    ctx: *mut xdp_md,
    control: &'static Control,
    packet: Packet,
}

impl Judged {
    /// A packet that breaks its format ends here: dropped when that part enforces, else passed for the stack to judge.
    #[inline(always)]
    fn malformed(&self, record: &mut CpuStats, reason: Reason) -> u32 {
        if on(record, Part::Malformed)
            && let Some(action) = carry_out(self.ctx, self.control, record, Finding::new(reason))
        {
            return action;
        }
        pass(record, Reason::Clean)
    }

    /// As [`malformed`](Self::malformed), before an address was known.
    #[inline(always)]
    fn no_address(&self, record: &mut CpuStats, reason: Reason) -> u32 {
        // Stores of one register; a run of zeros would become a call of memset, which the verifier refuses.
        let zero = core::hint::black_box(0u64);
        record.scene.source = Wide { high: zero, low: zero };
        record.scene.destination = Wide { high: zero, low: zero };
        self.malformed(record, reason)
    }

    #[inline(always)]
    fn v4(&self, record: &mut CpuStats, offset: u32) -> u32 {
        let header = packet::v4::header(&self.packet, offset);
        if !header.addressed {
            return self.no_address(record, header.fault.unwrap_or(Reason::Truncated));
        }
        let scene = &mut record.scene;
        scene.source = Wide::mapped(header.source);
        scene.destination = Wide::mapped(header.destination);
        scene.protocol = u32::from(header.protocol);
        scene.proto = class(header.protocol, header.fragment);
        let near = ban::near_v4(header.source);
        if near && on(record, Part::Bans) {
            let finding = ban::check_v4(self.control, record.scene.jiffies, header.source);
            if finding.is_some()
                && let Some(action) = carry_out(self.ctx, self.control, record, finding)
            {
                return action;
            }
        }
        if near && on(record, Part::Feeds) && feed::has_v4(self.control, header.source) {
            let finding = Finding::new(Reason::Feed);
            if let Some(action) = carry_out(self.ctx, self.control, record, finding) {
                return action;
            }
        }
        if let Some(fault) = header.fault {
            return self.malformed(record, fault);
        }
        let hash = hash_v4(&self.control.key, header.source);
        let upper = Upper {
            protocol: header.protocol,
            offset: header.payload,
            fragment: header.fragment,
            on_link: false,
            hash,
            near,
            plain: if header.payload == offset + packet::v4::MIN_HEADER { offset } else { 0 },
        };
        self.upper(record, &upper)
    }

    #[inline(always)]
    fn v6(&self, record: &mut CpuStats, offset: u32) -> u32 {
        let header = packet::v6::header(&self.packet, offset);
        if !header.addressed {
            return self.no_address(record, header.fault.unwrap_or(Reason::Truncated));
        }
        let scene = &mut record.scene;
        scene.source = header.source;
        scene.destination = header.destination;
        scene.protocol = u32::from(header.next);
        scene.proto = class(header.next, Fragment::Whole);
        if on(record, Part::Bans) {
            let finding = ban::check_v6(self.control, record.scene.jiffies, header.source);
            if finding.is_some()
                && let Some(action) = carry_out(self.ctx, self.control, record, finding)
            {
                return action;
            }
        }
        if on(record, Part::Feeds) && feed::has_v6(self.control, header.source) {
            let finding = Finding::new(Reason::Feed);
            if let Some(action) = carry_out(self.ctx, self.control, record, finding) {
                return action;
            }
        }
        if let Some(fault) = header.fault {
            return self.malformed(record, fault);
        }
        let upper = extensions::upper(self.ctx, header.next, header.payload);
        if let Some(fault) = upper.fault {
            return self.malformed(record, fault);
        }
        record.scene.protocol = u32::from(upper.protocol);
        record.scene.proto = class(upper.protocol, upper.fragment);
        let upper = Upper {
            protocol: upper.protocol,
            offset: upper.offset,
            fragment: upper.fragment,
            // RFC 4861: only packets that no router has forwarded carry a hop limit of 255.
            on_link: header.hop_limit == 255,
            hash: hash_wide(&self.control.key, header.source.high, 0, 8),
            near: true,
            plain: if upper.offset == offset + packet::v6::FIXED_HEADER { offset } else { 0 },
        };
        self.upper(record, &upper)
    }

    #[inline(always)]
    fn upper(&self, record: &mut CpuStats, upper: &Upper) -> u32 {
        let Upper { protocol, fragment, .. } = *upper;
        if fragment == Fragment::Later {
            return self.limited(record, upper);
        }
        let transport = packet::transport(&self.packet, protocol, upper.offset);
        if let Some(fault) = transport.fault {
            // The first fragment must hold the whole transport header (RFC 1858, RFC 7112).
            let tiny = fault == Reason::Truncated && fragment == Fragment::First;
            return self.malformed(record, if tiny { Reason::TinyFragment } else { fault });
        }
        record.scene.ports = u32::from(transport.source) << 16 | u32::from(transport.destination);
        record.scene.tcp_flags = u32::from(transport.flags);
        if protocol == ICMP6 && upper.on_link && (133..=137).contains(&(transport.destination >> 8)) {
            return pass(record, Reason::Discovery);
        }
        if on(record, Part::Ports) {
            let finding = port::closed(protocol, transport.destination, transport.flags);
            if finding.is_some()
                && let Some(action) = carry_out(self.ctx, self.control, record, finding)
            {
                return action;
            }
        }
        self.limited(record, upper)
    }

    /// The last checks: the source's own limits, then those of all sources together.
    #[inline(always)]
    fn limited(&self, record: &mut CpuStats, upper: &Upper) -> u32 {
        let mut word = 0;
        if on(record, Part::Limits) {
            word = limit::check(self.control, record, upper.hash, upper.near);
            if word != 0
                && word != limit::UNTRACKED
                && let Some(action) = carry_out(self.ctx, self.control, record, Finding::from_word(word))
            {
                return action;
            }
        }
        if on(record, Part::Flood) {
            if word == limit::UNTRACKED && flood::heavy(self.control, record, upper.hash) {
                let finding = Finding::new(Reason::Flood);
                if let Some(action) = carry_out(self.ctx, self.control, record, finding) {
                    return action;
                }
            }
            if is_syn(&record.scene) && flood::gate_shut(self.control, record) {
                return flood::refuse(self.ctx, u64::from(upper.plain));
            }
        }
        pass(record, Reason::Clean)
    }
}

/// What the last checks want to know beside the scene.
struct Upper {
    protocol: u8,
    offset: u32,
    fragment: Fragment,
    on_link: bool,
    /// Hash of the source, for the limiter.
    hash: u64,
    /// Whether a policy prefix may match the source.
    near: bool,
    /// Offset of the IP header when the transport header follows it directly, else zero.
    plain: u32,
}

/// Protocol class for the counters.
#[inline(always)]
fn class(protocol: u8, fragment: Fragment) -> u32 {
    if fragment == Fragment::Later { Proto::Fragment as u32 } else { Proto::of(protocol) as u32 }
}

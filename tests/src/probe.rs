//! When a client's packets stop getting through: numbered datagrams to an echo beside the gateway, every few
//! microseconds. It sees what the kernel does with the client's packets, independent of the gateway's own counters.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// Most datagrams of one probe.
const MAX_PROBES: usize = 400_000;
/// The pause between two datagrams: the resolution of what is measured.
const PAUSE: Duration = Duration::from_micros(100);

/// Sends back what it gets, until the value is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Listens on `address` in the namespace; port 0 takes a free one.
    pub fn start(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let socket = netns.inside(|| UdpSocket::bind(address).context("the echo cannot listen"))?;
        let address = socket.local_addr()?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(&datagram[..length], from);
                }
            }
        });
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A running probe.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Instant>>,
    receiver: JoinHandle<Vec<u32>>,
}

impl Probe {
    /// Starts sending from the namespace.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = netns.inside(|| {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (out, stopped) = (socket.try_clone()?, stop.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::with_capacity(MAX_PROBES);
            while !stopped.load(Ordering::Relaxed) && sent.len() < MAX_PROBES {
                let number = sent.len() as u32;
                sent.push(Instant::now());
                // A full queue loses one number, as the network might.
                let _ = out.send(&number.to_be_bytes());
                std::thread::sleep(PAUSE);
            }
            sent
        });
        let stopped = stop.clone();
        let receiver = std::thread::spawn(move || {
            let mut echoed = Vec::with_capacity(MAX_PROBES);
            let mut datagram = [0; 4];
            loop {
                match socket.recv(&mut datagram) {
                    Ok(4) => echoed.push(u32::from_be_bytes(datagram)),
                    Ok(_) => {}
                    Err(_) if stopped.load(Ordering::Relaxed) => return echoed,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { stop, sender, receiver })
    }

    /// Stops, and returns when the first datagram after the last echoed one was sent, and how many were lost from there
    /// on; `None` where everything came back.
    pub fn finish(self) -> Result<Option<(Instant, usize)>> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| anyhow::anyhow!("the probe's sender died"))?;
        let echoed = self.receiver.join().map_err(|_| anyhow::anyhow!("the probe's receiver died"))?;
        let last = echoed.iter().max().context("no probe ever came back: the echo is out of reach")?;
        let first_lost = *last as usize + 1;
        Ok(sent.get(first_lost).map(|at| (*at, sent.len() - first_lost)))
    }
}

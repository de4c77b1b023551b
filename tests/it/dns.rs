//! A name server on a UDP socket that answers as it is told, and counts what it is asked.
//!
//! Knows A and AAAA alone. Never outlives its value.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a question of one kind is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These addresses; none for "no such record".
    Addresses(Vec<IpAddr>),
    /// An error by its number: 2 for SERVFAIL, 3 for NXDOMAIN.
    Code(u8),
    /// Nothing at all.
    Silence,
}

/// What is said of every name.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) aaaa: Reply,
    pub(crate) a: Reply,
    /// What is said of `ipv4only.arpa`'s IPv6 addresses.
    pub(crate) discovery: Reply,
    /// How long AAAA takes.
    pub(crate) aaaa_late: Duration,
    /// How long all that may be believed.
    pub(crate) ttl_secs: u32,
}

/// A running name server.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Zone {
    /// These addresses, each under its kind.
    pub(crate) fn of(addresses: &[&str]) -> Self {
        let all = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
        let (a, aaaa) = all.partition(IpAddr::is_ipv4);
        Self {
            aaaa: Reply::Addresses(aaaa),
            a: Reply::Addresses(a),
            discovery: Reply::Code(NXDOMAIN),
            aaaa_late: Duration::ZERO,
            ttl_secs: 60,
        }
    }
}

impl NameServer {
    /// Answers on a free port of 127.0.0.1.
    pub(crate) fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(zone));
        let (asked, stopping) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let answering = {
            let (zone, asked, stopping) = (zone.clone(), asked.clone(), stopping.clone());
            std::thread::spawn(move || answer_all(&socket, &zone, &asked, &stopping))
        };
        Self { address, zone, asked, stopping, answering: Some(answering) }
    }

    /// Has it say something else from here on.
    pub(crate) fn set(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked, as `A au.example`, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let waking = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _ = waking.send_to(&[], self.address);
        let _ = self.answering.take().map(JoinHandle::join);
    }
}

fn answer_all(socket: &UdpSocket, zone: &Mutex<Zone>, asked: &Mutex<Vec<String>>, stopping: &AtomicBool) {
    let mut query = [0; 1500];
    let mut late = Vec::new();
    while let Ok((len, from)) = socket.recv_from(&mut query) {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let query = query[..len].to_vec();
        let Some((name, kind, end)) = question(&query) else { continue };
        let (is_aaaa, zone) = (kind == AAAA, zone.lock().unwrap().clone());
        asked.lock().unwrap().push(format!("{} {name}", if is_aaaa { "AAAA" } else { "A" }));
        let reply = match (is_aaaa, name.as_str()) {
            (true, "ipv4only.arpa") => &zone.discovery,
            (true, _) => &zone.aaaa,
            (false, _) => &zone.a,
        };
        let Some(message) = message(&query, end, reply, zone.ttl_secs) else { continue };
        if is_aaaa && !zone.aaaa_late.is_zero() {
            let (socket, pause) = (socket.try_clone().unwrap(), zone.aaaa_late);
            late.push(std::thread::spawn(move || {
                std::thread::sleep(pause);
                let _ = socket.send_to(&message, from);
            }));
        } else {
            let _ = socket.send_to(&message, from);
        }
    }
    for thread in late {
        drop(thread.join());
    }
}

/// A query's name in lower case, its type, and where its question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8(query.get(at..at + len)?.to_ascii_lowercase()).ok()?);
        at += len;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

fn message(query: &[u8], end: usize, reply: &Reply, ttl_secs: u32) -> Option<Vec<u8>> {
    let (code, addresses) = match reply {
        Reply::Addresses(addresses) => (0, addresses.as_slice()),
        Reply::Code(code) => (*code, &[][..]),
        Reply::Silence => return None,
    };
    let negative = addresses.is_empty() && code != SERVFAIL;
    let mut message = query[..2].to_vec();
    // An answer, recursion desired and available; one question.
    message.extend([0x81, 0x80 | code, 0, 1]);
    message.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    message.extend([0, u8::from(negative), 0, 0]);
    message.extend(&query[HEADER..end]);
    for address in addresses {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        record(&mut message, if address.is_ipv4() { 1 } else { AAAA }, ttl_secs, &octets);
    }
    if negative {
        // How long it may be believed that there is nothing (RFC 2308 section 5).
        let mut soa = vec![0, 0];
        soa.extend([1, 60, 60, 60, ttl_secs].into_iter().flat_map(u32::to_be_bytes));
        record(&mut message, 6, ttl_secs, &soa);
    }
    Some(message)
}

fn record(message: &mut Vec<u8>, kind: u16, ttl_secs: u32, data: &[u8]) {
    message.extend([0xc0, 0x0c]);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message.extend(ttl_secs.to_be_bytes());
    message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    message.extend(data);
}

const HEADER: usize = 12;
const AAAA: u16 = 28;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;

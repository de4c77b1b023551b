//! A parent proxy on real sockets: HTTP, HTTP in TLS or SOCKS5. It works, or misbehaves as it is told, and notes what it hears.
//!
//! Whatever destination it is asked for, it leads to one place: so a name that only a parent knows has somewhere to lead. Never
//! outlives its value.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use forebay::config::settings::CertificateFiles;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What it does.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// It leads to the place.
    Leads,
    /// It does for who has these credentials, and refuses all others.
    LeadsFor(&'static str),
    /// It answers whatever it heard first with these bytes, and closes.
    Says(&'static [u8]),
    /// It hears, and says nothing.
    Hangs,
}

/// What it speaks.
#[derive(Clone, Debug)]
pub(crate) enum Speech {
    Http,
    Https(CertificateFiles),
    Socks,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    scheme: &'static str,
    heard: Arc<Mutex<Heard>>,
    runtime: Option<Runtime>,
}

/// What a proxy heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Heads of requests, or `SOCKS destination user:password`.
    pub(crate) asked: Vec<String>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn start(speech: &Speech, manner: Manner, place: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Heard>>::default());
        let (scheme, tls) = match speech {
            Speech::Http => ("http", None),
            Speech::Https(files) => ("https", Some(acceptor(files))),
            Speech::Socks => ("socks5", None),
        };
        let state = heard.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().unwrap().connections += 1;
                let (tls, state, manner) = (tls.clone(), state.clone(), manner.clone());
                tokio::spawn(async move {
                    // How a connection ends is for the relay to see.
                    let _ = match tls {
                        Some(tls) => http(tls.accept(stream).await?, &manner, place, &state).await,
                        None if scheme == "socks5" => socks(stream, &manner, place, &state).await,
                        None => http(stream, &manner, place, &state).await,
                    };
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address, scheme, heard, runtime: Some(runtime) }
    }

    /// As `route.via` names it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The same by another name of its host.
    pub(crate) fn url_at(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn acceptor(files: &CertificateFiles) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&files.chain).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    manner: &Manner,
    place: SocketAddr,
    heard: &Mutex<Heard>,
) -> std::io::Result<()> {
    let head = head(&mut stream).await?;
    heard.lock().unwrap().asked.push(head.clone());
    match manner {
        Manner::Leads => {}
        Manner::LeadsFor(credentials) => {
            let wanted = headers::Authorization::basic(
                credentials.split_once(':').unwrap().0,
                credentials.split_once(':').unwrap().1,
            );
            let wanted = headers::authorization::Credentials::encode(&wanted.0);
            let wanted = format!("proxy-authorization: {}", wanted.to_str().unwrap());
            if !head.lines().any(|line| line.eq_ignore_ascii_case(&wanted)) {
                let refusal =
                    "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n";
                stream.write_all(format!("{refusal}Connection: close\r\n\r\n").as_bytes()).await?;
                return stream.shutdown().await;
            }
        }
        Manner::Says(bytes) => {
            stream.write_all(bytes).await?;
            return stream.shutdown().await;
        }
        Manner::Hangs => return std::future::pending().await,
    }
    let (request, headers) = head.split_once("\r\n").unwrap();
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let Ok(mut there) = TcpStream::connect(place).await else {
        stream
            .write_all(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await?;
        return stream.shutdown().await;
    };
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        return tokio::io::copy_bidirectional(&mut stream, &mut there).await.map(|_| ());
    }
    let rest = target.strip_prefix("http://").expect("a proxy is asked in absolute-form");
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    let kept = headers.split_inclusive("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !name.starts_with("proxy-") && name != "connection" && *line != "\r\n"
    });
    let kept: String = kept.collect();
    there
        .write_all(format!("{method} {path} HTTP/1.1\r\n{kept}Connection: close\r\n\r\n").as_bytes())
        .await?;
    // What comes after the head is the request's body.
    let (mut from_there, mut to_there) = there.split();
    let (mut from_here, mut to_here) = tokio::io::split(stream);
    let answering = async {
        let answer = self::head(&mut from_there).await?;
        let (status, headers) = answer.split_once("\r\n").unwrap();
        to_here.write_all(format!("{status}\r\nConnection: close\r\n{headers}").as_bytes()).await?;
        tokio::io::copy(&mut from_there, &mut to_here).await?;
        to_here.shutdown().await
    };
    tokio::select! {
        answered = answering => answered,
        Err(error) = tokio::io::copy(&mut from_here, &mut to_there) => Err(error),
    }
}

async fn socks(
    mut stream: TcpStream,
    manner: &Manner,
    place: SocketAddr,
    heard: &Mutex<Heard>,
) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).await?;
    let mut told = String::new();
    match manner {
        Manner::Says(bytes) => {
            stream.write_all(bytes).await?;
            return stream.shutdown().await;
        }
        Manner::Hangs => return std::future::pending().await,
        Manner::LeadsFor(wanted) => {
            if !methods.contains(&2) {
                return stream.write_all(&[5, 0xff]).await;
            }
            stream.write_all(&[5, 2]).await?;
            assert_eq!(stream.read_u8().await?, 1);
            told = format!("{}:{}", text(&mut stream).await?, text(&mut stream).await?);
            let right = told == *wanted;
            stream.write_all(&[1, u8::from(!right)]).await?;
            if !right {
                return Ok(());
            }
        }
        Manner::Leads => stream.write_all(&[5, 0]).await?,
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        3 => text(&mut stream).await?,
        kind => panic!("a destination of kind {kind}"),
    };
    let port = stream.read_u16().await?;
    heard.lock().unwrap().asked.push(format!("SOCKS {host}:{port} {told}"));
    let Ok(mut there) = TcpStream::connect(place).await else {
        return stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut there).await.map(|_| ())
}

async fn text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// A head, with the empty line at its end.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

//! Connections by one way: directly, or through a parent.
//!
//! Through a parent the destination's name is not resolved here: it is known by the rules that list it, and an address that is
//! written as one is judged as for a direct connection. The parent's own address is the administrator's to see to. Never
//! chooses a way: that is [`routes`](crate::upstream::routes). Invariant: where TLS is wanted, it is spoken with the destination,
//! whatever stands between.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use tokio::time::timeout;
use tower_service::Service;
use tracing::debug;

use crate::base::destination::Destination;
use crate::config::settings::{Family, ReachSettings};
use crate::upstream::connect::{ConnectError, Connector, NamedBy, Target, shake};
use crate::upstream::parent::{Parent, ParentError};
use crate::upstream::stream::{Connection, End};
use crate::upstream::watch::Step;

/// Connects by one way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Connects directly, for whom the connection is.
    pub direct: Connector,
    /// The parent; `None` for the direct way.
    pub parent: Option<Arc<Parent>>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For<'a> {
    /// HTTP requests.
    Requests,
    /// Whatever is spoken with the destination itself, by no parent that listens at these ports of this machine: one that is the
    /// relay would connect to itself, and so on, until there is no place left.
    Bytes(&'a [u16]),
}

impl Hop {
    /// Connects to where a URI leads.
    pub async fn connect(self, uri: Uri, purpose: For<'_>) -> Result<Connection, ConnectError> {
        let Some(parent) = &self.parent else { return self.direct.connect(uri).await };
        let target = Target::of(&uri)?;
        let to = Destination::new(&target.host, target.port).map_err(|_| ConnectError::Target)?;
        self.direct.judge(&to).await?;
        let shared = &self.direct.shared;
        let reach = ReachSettings { family: Family::Race, ..self.direct.reach };
        // Which addresses a parent has is for nobody to remember.
        let named_by = NamedBy::Settings(Arc::default());
        let towards = Connector { shared: shared.clone(), reach, named_by };
        let reached = towards.connect(parent.uri().clone()).await;
        let io = reached.map_err(|error| ConnectError::Parent(error.to_string(), true))?.into_io();
        if let For::Bytes(own) = purpose
            && io.leads_back(own)
        {
            return Err(ConnectError::Parent("it is this relay".into(), true));
        }
        if purpose == For::Requests && target.tls.is_none() && parent.takes_requests() {
            return Ok(Connection::new(io, End::Proxy));
        }
        let leading = async {
            let io = parent.lead(io, &to).await?;
            shared.watcher.tell(|| Step::Led(parent.name()));
            match target.tls {
                None => Ok(io),
                Some(name) => shake(shared, name, io).await.map_err(ParentError::Tls),
            }
        };
        let led = timeout(shared.connect, leading).await;
        let io = led.unwrap_or(Err(ParentError::Silence(shared.connect)))?;
        debug!(%to, parent = parent.name(), "connected through a parent");
        Ok(Connection::new(io, End::Tunnel))
    }
}

impl Service<Uri> for Hop {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri, For::Requests))
    }
}

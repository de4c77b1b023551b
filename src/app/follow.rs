//! What follows the changes of the agent tree: whether clients are asked for certificates, and the room that the tree takes.

use std::sync::Arc;

use crate::net::tls::Tls;
use crate::relay::agents::Agents;
use crate::relay::resources::Resources;

/// Follows the changes until the relay stops. What holds at the start does once this returns.
pub(super) fn follow(
    agents: Arc<Agents>,
    tls: Option<Arc<Tls>>,
    resources: &Resources,
) -> impl Future<Output = ()> + use<> {
    let stop = resources.stop.clone();
    // What is noted gives way to nothing: it is what the sweep makes room for.
    let mut taken = resources.store.room().note(0);
    let mut changes = agents.changes();
    let mut hold = move |agents: &Agents| {
        taken.set(agents.state().bytes());
        if let Some(tls) = &tls {
            tls.set_fingerprints(agents.tree().tree().certificate_count());
        }
    };
    hold(&agents);
    async move {
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            hold(&agents);
        }
    }
}

//! `GET /metrics`: the relay's counts in the OpenMetrics text format, made at each scrape from the tally and the trees.

use std::fmt;

use axum::extract;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::admin::State;
use crate::admin::api::blocking;
use crate::admin::api::current::out_of_date;
use crate::admin::document::Failed;
use crate::admin::problem::Problem;
use crate::base::tally::{Outcome, Refused, RefusedBy, Went};
use crate::relay::tree::Tree;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers a scrape.
#[utoipa::path(get, path = "/metrics", tag = "relay", operation_id = "show_metrics", responses(
    (status = 200, description = "The relay's counts. Programs on the relay's machine need no token.", body = String,
        content_type = "application/openmetrics-text"),
    Failed,
))]
pub async fn show(extract::State(state): extract::State<State>) -> Result<impl IntoResponse, Problem> {
    // All agents are looked at, which may be a hundred thousand.
    let text = blocking(move || {
        let mut registry = Registry::with_prefix("forebay");
        registry.register_collector(Box::new(Scrape(state)));
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.await?))
}

#[derive(Debug)]
struct Scrape(State);

/// A gauge's name, its help, and its value for a tree that has one.
type TreeGauge<'a> = (&'static str, &'static str, &'a dyn Fn(&Tree) -> Option<u64>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = self.0.tally();
        let counters = [
            ("sent_bytes", "Body bytes handed to agents", &tally.sent_bytes),
            ("upstream_bytes", "Body bytes received from upstreams", &tally.upstream_bytes),
            ("upstream_requests", "Requests sent to upstreams", &tally.upstream_requests),
            ("fills_begun", "Fetches from upstreams begun", &tally.fills_begun),
            ("fills_completed", "Fetches that became a blob", &tally.fills_completed),
            ("fills_failed", "Fetches that ended in an error", &tally.fills_failed),
            ("connections", "Agents' connections accepted", &tally.connections),
            (
                "connections_dismissed",
                "Idle connections closed to make room for new ones",
                &tally.connections_dismissed,
            ),
            (
                "http2_floods",
                "HTTP/2 connections ended for too many frames that asked for nothing",
                &tally.http2_floods,
            ),
            ("tls_completed", "TLS handshakes that agents completed", &tally.tls_completed),
            ("tls_failed", "TLS handshakes that failed or took too long", &tally.tls_failed),
            ("tunnel_up_bytes", "Bytes that tunnels took from agents", &tally.tunnel_up_bytes),
            ("tunnel_down_bytes", "Bytes that tunnels took to agents", &tally.tunnel_down_bytes),
            ("requests_delayed", "Requests that waited for a limit, and went on", &tally.requests_delayed),
            ("slowed_bytes", "Bytes to agents that waited for a limit", &tally.slowed_bytes),
            ("refreshes_new", "Refreshes that gave a new generation", &tally.refreshes_new),
            ("refreshes_same", "Refreshes that found nothing new", &tally.refreshes_same),
            ("refreshes_failed", "Refreshes that failed", &tally.refreshes_failed),
            (
                "unknown_components",
                "Manifest lines that neither parser nor catalogue knew",
                &tally.unknown_components,
            ),
            ("scrubbed_blobs", "Stored files checked by the scrubber", &tally.scrubbed_blobs),
            ("scrubbed_bytes", "Bytes checked by the scrubber", &tally.scrubbed_bytes),
            ("bad_blobs", "Stored files that the scrubber found damaged", &tally.bad_blobs),
            ("unpermitted", "Packages that agents took without a permission", &tally.unpermitted),
            ("settings_files", "Settings files that agents asked for", &tally.settings_files),
            (
                "admin_refused",
                "Requests of administrators refused for want of a right token or role",
                &tally.admin_refused,
            ),
            ("log_lines_lost", "Log lines lost because their reader was too slow", &tally.log_lines_lost),
        ];
        for (name, help, counter) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.value()).encode(metric)?;
        }
        let room = self.0.resources.store.room();
        let (answers, answer_bytes) = self.0.resources.answers.size();
        let live = self.0.live.load();
        let known = live.agents.tree().tree().agent_count() as u64;
        // In all: a label for each domain would make series without bound. The API says it for each.
        let tree = live.agents.state().current();
        let stale: u64 = out_of_date(&live, &tree, |_| true).values().sum();
        let gauges = [
            ("agents", "Agents in the agent tree", known),
            ("agents_out_of_date", "Agents let in that have told of something that is not current", stale),
            ("agents_heard", "Agents that checked in since the start", live.agents.seen().len() as u64),
            ("cache_answers", "Answers of other servers that are kept", answers),
            ("cache_bytes", "Bytes of their bodies, equal ones counted once", answer_bytes),
            ("data_bytes", "What the data folder takes on its disk", room.taken()),
            ("quota_bytes", "What it may take; 0 is as much as the disk has", room.quota().unwrap_or(0)),
            ("fills_now", "Fetches from upstreams under way", tally.fills_now.value()),
            ("connections_now", "Agents' connections open", tally.connections_now.value()),
            ("tunnels_now", "Tunnels to other servers open", tally.tunnels_now.value()),
            (
                "notices_streams_now",
                "Connections of HTTP/1 held by agents to be told",
                tally.streams_now.value(),
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        self.notices(&mut encoder)?;
        self.requests(&mut encoder)?;
        self.refused(&mut encoder)?;
        self.refused_by(&mut encoder)?;
        self.reports(&mut encoder)?;
        self.tasks(&mut encoder)?;
        self.trees(&mut encoder)
    }
}

impl Scrape {
    fn notices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.notifier.counts();
        let gauges = [
            ("notices_online", "Agents that can be told to update", counts.online as u64),
            ("notices_waiting", "Agents that wait for their turn to be told", counts.waiting as u64),
            ("notices_under_way", "Agents that were told and have not reported", counts.under_way.into()),
            ("notices_planned", "Agents that have a moment in a window", counts.planned as u64),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let counters = [
            ("notices_told", "Times that an agent was told, repeats too", counts.told),
            ("notices_repeated", "Times that an agent was told again", counts.repeated),
            ("notices_reported", "Notices that ended with a report", counts.reported),
            ("notices_gave_up", "Notices that were given up", counts.gave_up),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("requests", "Requests by outcome", None, MetricType::Counter)?;
        for outcome in Outcome::ALL {
            let counter = ConstCounter::new(self.0.tally().requests(outcome));
            counter.encode(family.encode_family(&[("outcome", outcome.name())])?)?;
        }
        Ok(())
    }

    fn refused(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections closed before anything was asked on them, by reason";
        let mut family = encoder.encode_descriptor("connections_refused", help, None, MetricType::Counter)?;
        for reason in Refused::ALL {
            let counter = ConstCounter::new(self.0.tally().connections_refused(reason));
            counter.encode(family.encode_family(&[("reason", reason.name())])?)?;
        }
        Ok(())
    }

    fn refused_by(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that the policy or a limit refused, by what refused them";
        let mut family = encoder.encode_descriptor("requests_refused", help, None, MetricType::Counter)?;
        for by in RefusedBy::ALL {
            let counter = ConstCounter::new(self.0.tally().requests_refused(by));
            counter.encode(family.encode_family(&[("by", by.name())])?)?;
        }
        Ok(())
    }

    fn reports(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Updates that agents reported, by how they went";
        let mut family = encoder.encode_descriptor("agent_reports", help, None, MetricType::Counter)?;
        for went in Went::ALL {
            let counter = ConstCounter::new(self.0.tally().reports(went));
            counter.encode(family.encode_family(&[("result", went.name())])?)?;
        }
        Ok(())
    }

    fn tasks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("tasks", "Tasks alive in each runtime", None, MetricType::Gauge)?;
        for (name, metrics) in self.0.runtimes.iter() {
            let alive = ConstGauge::new(metrics.num_alive_tasks() as u64);
            alive.encode(family.encode_family(&[("runtime", name.as_str())])?)?;
        }
        Ok(())
    }

    fn trees(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.0.resources.clock.wall();
        let gauges: [TreeGauge<'_>; 6] = [
            ("generation", "Number of the current generation", &|tree| {
                Some(tree.snapshot()?.current().generation.number().0)
            }),
            ("generation_age_seconds", "Since the current generation's manifest was taken", &|tree| {
                let taken = tree.snapshot()?.current().generation.taken();
                u64::try_from(now.duration_since(taken).as_secs()).ok().or(Some(0))
            }),
            ("generations_kept", "Generations that are kept", &|tree| {
                Some(tree.snapshot().map_or(0, |snapshot| snapshot.published().len() as u64))
            }),
            (
                "upstream_unconfirmed_seconds",
                "Since the upstream last confirmed the current generation",
                &|tree| Some(tree.standing.unconfirmed_secs()),
            ),
            ("missing_bytes", "What the quota is short of for the upstream's generation", &|tree| {
                Some(tree.standing.missing_bytes())
            }),
            ("upstream_down", "1 while the upstream could not be asked", &|tree| {
                Some(u64::from(tree.standing.is_upstream_down()))
            }),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (_, tree) in &self.0.live.load().trees {
                if let Some(value) = value(tree) {
                    ConstGauge::new(value).encode(family.encode_family(&[("tree", tree.name.as_str())])?)?;
                }
            }
        }
        Ok(())
    }
}

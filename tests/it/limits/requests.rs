//! Requests: a second's go on, a second's wait, and the rest are told when to come back, not all at once.

use std::collections::HashSet;
use std::time::Instant;

use forebay::base::tally::{Outcome, RefusedBy};
use forebay::policy::administrator::Role;
use forebay::policy::tree::setting::Values;

use super::{Ground, MANIFEST, bearer, rate};
use crate::raw::answer::Answer;
use crate::raw::{Client, fetch};
use crate::served::metric;
use crate::tunnel::until;

fn retry_secs(answer: &Answer) -> u64 {
    answer.head.header("retry-after").unwrap_or_else(|| panic!("{:?}", answer.head)).parse().unwrap()
}

#[test]
fn a_flood_of_a_domain_is_served_by_its_limit_and_the_rest_come_back_apart_r10_1() {
    const PER_SEC: u64 = 20;
    let mut ground = Ground::new();
    ground.limit(Values { domain_requests_per_sec: rate(PER_SEC), ..Values::default() });
    let mut crowd: Vec<_> = (0..150).map(|at| ground.client(1, 1 + at)).collect();
    let began = Instant::now();
    for client in &mut crowd {
        client.ask("GET", MANIFEST, &[]).unwrap();
    }
    let answers: Vec<_> = crowd.iter_mut().map(|client| client.answer("GET").unwrap()).collect();
    let took = began.elapsed();
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.head.status == 200);
    // While they came, there was time for some more.
    let most = 2 * PER_SEC + 2 + u64::try_from(took.as_millis()).unwrap() * PER_SEC / 1000;
    assert!((2 * PER_SEC..=most).contains(&(served.len() as u64)), "{} in {took:?}", served.len());
    assert!(took.as_millis() >= 900, "a second's wait: {took:?}");
    let told: HashSet<_> = refused.iter().map(|answer| retry_secs(answer)).collect();
    assert!(refused.iter().all(|answer| answer.head.status == 503), "{:?}", refused[0].head);
    assert!(told.len() >= 4 && told.iter().all(|secs| (1..=30).contains(secs)), "{told:?}");
    assert_eq!(ground.tally.requests_refused(RefusedBy::DomainLimit), refused.len() as u64);
    assert_eq!(ground.tally.requests(Outcome::Refused), refused.len() as u64);
    assert!(ground.tally.requests_delayed.value() >= PER_SEC);
    // Others are served meanwhile, and so is who comes back.
    assert_eq!(ground.client(2, 1).exchange("GET", MANIFEST, &[]).unwrap().head.status, 200);
    let mut back = ground.client(1, 200);
    until("who comes back is served", || {
        Client::exchange(&mut ground.client(1, 201), "HEAD", MANIFEST, &[]).unwrap().head.status == 200
    });
    assert!(matches!(back.exchange("GET", MANIFEST, &[]).unwrap().head.status, 200 | 503));
    let page = String::from_utf8(ground.relay.ask("/metrics")).unwrap();
    assert!(metric(&page, "forebay_requests_refused_total{by=\"domain-limit\"}") >= refused.len() as u64);
    assert!(metric(&page, "forebay_requests_delayed_total") >= PER_SEC);
    // Why is told to administrators, too.
    let shown = [("Authorization", &*ground.relay.bearer(Role::Viewer))];
    let told = fetch(ground.relay.admin(), "/api/v1/refusals", &shown).whole(200);
    assert!(String::from_utf8(told).unwrap().contains("the agent's domain sends more requests"));
    ground.relay.stop();
}

#[test]
fn an_agent_over_its_rate_is_told_so_and_another_one_is_served_r10_1() {
    let mut ground = Ground::new();
    ground.limit(Values { requests_per_sec: rate(2), ..Values::default() });
    let ask = |ground: &Ground, id: &str| {
        let mut client = Client::connect(ground.relay.v4());
        client.ask("GET", MANIFEST, &[("Authorization", &bearer(id))]).unwrap();
        client
    };
    let mut crowd: Vec<_> = (0..12).map(|_| ask(&ground, "a")).collect();
    let answers: Vec<_> = crowd.iter_mut().map(|client| client.answer("GET").unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.head.status != 200).collect();
    assert!((4..=8).contains(&refused.len()), "{}", refused.len());
    for answer in &refused {
        assert_eq!(answer.head.status, 429);
        assert!((2..=20).contains(&retry_secs(answer)), "{:?}", answer.head);
    }
    assert_eq!(ground.tally.requests_refused(RefusedBy::AgentLimit), refused.len() as u64);
    assert_eq!(ask(&ground, "b").answer("GET").unwrap().head.status, 200);
    // A connection on which somebody was sent away is as good as before.
    let at = answers.iter().position(|answer| answer.head.status == 429).unwrap();
    let again = crowd[at].exchange("GET", "/activeupdate/none", &[("Authorization", &bearer("b"))]);
    assert_eq!(again.unwrap().head.status, 404);
    ground.relay.stop();
}

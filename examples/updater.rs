//! An agent in a few lines: enrols once, then updates and says what came of it.
//!
//! `cargo run --example updater -- https://relay.example:8443/ FOLDER [ENROLMENT-TOKEN]`

use forebay::agent::{Asked, Outcome, Updater};
use forebay::config::agent::Settings;
use forebay::policy::check_in::Why;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, relay, folder, token @ ..] = &arguments[..] else {
        return Err("updater RELAY-URL FOLDER [ENROLMENT-TOKEN]".into());
    };
    let settings = Settings { folder: Some(folder.into()), ..Settings::for_relay(relay)? };
    let updater = Updater::open(settings)?;
    if let (false, Some(token)) = (updater.is_enrolled(), token.first()) {
        println!("enrolled as {}", updater.enrol(token, None).await?.as_str());
    }
    let mut watch = |progress| println!("{progress:?}");
    match updater.update(Asked::everything(Why::Start), &mut watch).await? {
        Outcome::Denied(reason) => println!("not now: {reason}"),
        Outcome::Ended(last) => println!("{:?}, {} bytes; {}", last.result, last.bytes, last.detail),
    }
    for component in updater.installed()?.components {
        println!("{} {} in {folder}/current/{}", component.component, component.version, component.place());
    }
    Ok(())
}

//! Stock curl and wget that use the relay as their proxy, and a mount over HTTP/2 (R4.2, R4.4).

use std::fs;
use std::process::Command;

use crate::cache::proxy;
use crate::cache::server::{Act, Server, answer};
use crate::process::{run, tool};
use crate::relay::Running;
use crate::served::WITHIN;
use crate::site::Site;

/// A server with a file, and one that says what it was sent.
fn server(bytes: Vec<u8>) -> Server {
    Server::start(move |asked, _| match &*asked.method {
        "POST" | "PUT" => {
            vec![Act::Body, Act::Send(b"HTTP/1.1 201 x\r\nContent-Length: 5\r\n\r\ntaken".to_vec())]
        }
        _ if asked.target == "/missing" => answer(404, "", "no"),
        _ => {
            let head = format!(
                "HTTP/1.1 200 x\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            );
            vec![Act::Send(head.into()), Act::Send(bytes.clone())]
        }
    })
}

#[test]
fn curl_and_wget_get_files_resume_and_send_through_the_proxy_r4_2() {
    let (Some(curl), Some(wget)) = (tool("curl"), tool("wget")) else { return };
    let bytes: Vec<u8> = (0..1_500_000u32).map(|number| (number % 253) as u8).collect();
    let server = server(bytes.clone());
    let relay = proxy(&[server.port()]);
    let folder = tempfile::tempdir().unwrap();
    let (file, proxy) = (folder.path().join("file"), format!("http://{}", relay.v4()));
    let curl = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "-x", &proxy, "--noproxy", "", "-o"]).arg(&file).args(arguments);
        run(&mut command, WITHIN).succeeded().stdout.trim().to_owned()
    };
    let url = server.url("/file");
    let said = curl(&["-w", "%{http_code} %{size_download}", &url]);
    assert_eq!(said, format!("200 {}", bytes.len()));
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(curl(&["-w", "%{http_code}", "-r", "100-199", &url]), "206");
    assert!(fs::read(&file).unwrap() == bytes[100..200]);
    fs::write(&file, &bytes[..1000]).unwrap();
    curl(&["-C", "-", &url]);
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(curl(&["-w", "%{http_code}", &server.url("/missing")]), "404");
    let upload = folder.path().join("upload");
    fs::write(&upload, &bytes).unwrap();
    let given = format!("@{}", upload.display());
    assert_eq!(
        curl(&[
            "-w",
            "%{http_code}",
            "-H",
            "Expect: 100-continue",
            "--data-binary",
            &given,
            &server.url("/up")
        ]),
        "201"
    );
    assert!(server.asked_for("/up")[0].body == bytes);
    fs::remove_file(&file).unwrap();
    let mut command = Command::new(wget);
    command.args(["-q", "-O"]).arg(&file).arg(&url).env("http_proxy", &proxy).env("no_proxy", "");
    run(&mut command, WITHIN).succeeded();
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(server.asked_for("/file").len(), 1, "one request for all of them");
    relay.stop();
}

#[test]
fn a_mount_is_served_over_http_2_with_bodies_both_ways_r4_4() {
    let Some(curl) = tool("curl") else { return };
    let bytes: Vec<u8> = (0..400_000u32).map(|number| (number % 241) as u8).collect();
    let server = server(bytes.clone());
    let site = Site::with(5, &[4]);
    let mut settings = crate::relay::settings(site.text());
    let text = format!(
        "[[tree]]\nupstream = {:?}\n[[mount]]\npath = \"/m/\"\nupstream = \"{}\"\n",
        site.text(),
        server.url("/")
    );
    settings.mounts = forebay::config::parse(&text).unwrap().mounts;
    let relay = Running::refreshed(settings);
    let folder = tempfile::tempdir().unwrap();
    let (file, upload) = (folder.path().join("file"), folder.path().join("upload"));
    fs::write(&upload, &bytes).unwrap();
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new(&curl);
        command.args([
            "-sS",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-w",
            "%{http_version} %{http_code}",
            "-o",
        ]);
        command.arg(&file).args(arguments).arg(format!("http://{}/m/{path}", relay.v4()));
        run(&mut command, WITHIN).succeeded().stdout.trim().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(curl(&[], "file"), "2 200");
        assert!(fs::read(&file).unwrap() == bytes);
    }
    assert_eq!(curl(&["-I"], "file"), "2 200");
    let head = fs::read_to_string(&file).unwrap();
    assert!(head.contains(&format!("content-length: {}", bytes.len())), "{head}");
    assert_eq!(curl(&["--data-binary", &format!("@{}", upload.display())], "up"), "2 201");
    assert!(server.asked_for("/up")[0].body == bytes);
    assert_eq!(server.asked_for("/file").len(), 1);
    relay.stop();
}

//! Stock curl and wget show who they are in each way that they have (R5.5).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::line::{HERE, Site};
use super::*;
use crate::process::{run, tool};
use crate::served::WITHIN;

/// A file of a pattern, by the mirror and by the upstream's URL.
const MIRRORED: &str = "/activeupdate/pattern/vsapi329.zip";
const UPSTREAM: &str = "/pattern/vsapi329.zip";

#[test]
fn curl_and_wget_show_tokens_and_certificates_in_each_way_that_they_have_r5_5() {
    let (Some(curl), Some(wget)) = (tool("curl"), tool("wget")) else { return };
    let mut site = Site::new();
    let expected = fs::read(format!("{FIXTURE}{UPSTREAM}")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (right, wrong) = (token("patterns"), token("nobody"));
    let secure = site.relay.handle().running().tls[0];
    let (clear, socks) = (site.relay.v4(), site.relay.socks()[0]);
    let mirrored = format!("http://{clear}{MIRRORED}");
    let upstream = site.origin.url(UPSTREAM);
    let connections = site.origin.seen().connections;
    let gets = |tool: &Path, arguments: &[&str]| {
        let _ = fs::remove_file(&out);
        let output = if tool == curl { "-o" } else { "-O" };
        let ended = run(Command::new(tool).args(arguments).arg(output).arg(&out), WITHIN);
        let got = fs::read(&out).is_ok_and(|bytes| bytes == expected);
        assert_eq!(ended.status.success(), got, "{arguments:?}: {ended:?}");
        (got, ended.stderr)
    };
    for (shown, works) in [(&right, true), (&wrong, false)] {
        let user = format!("x:{shown}");
        let own = format!("http://{clear}/t/{shown}{MIRRORED}");
        let proxy = format!("http://{clear}");
        for arguments in [
            &["--user", &user, &mirrored][..],
            // It asks without, and then as it is told to.
            &["--anyauth", "--user", &user, &mirrored],
            &["--oauth2-bearer", shown, &mirrored],
            &["--http2-prior-knowledge", "--oauth2-bearer", shown, &mirrored],
            &[&own],
            &["-C", "0", &own],
            &["-x", &proxy, "--proxy-user", &user, &upstream],
            &["-x", &proxy, "--proxy-anyauth", "--proxy-user", &user, &upstream],
            &["-p", "-x", &proxy, "--proxy-user", &user, &upstream],
            &["--socks5-hostname", &socks.to_string(), "--proxy-user", &user, &upstream],
            &["-x", &format!("socks5h://x:{shown}@{socks}"), &upstream],
        ] {
            let arguments = [&["-sS", "--fail", "--noproxy", ""], arguments].concat();
            assert_eq!(gets(&curl, &arguments).0, works, "{arguments:?}");
        }
        let (user, password) = ("--user=x", format!("--password={shown}"));
        let by_proxy = ["-e", "use_proxy=yes", "-e", &format!("http_proxy={proxy}"), "--proxy-user=x"];
        let proxy_password = format!("--proxy-password={shown}");
        let quiet = ["-S", "--tries=1", "--no-proxy"];
        // It shows nothing until it is asked to.
        let (got, said) = gets(&wget, &[&quiet[..], &[user, &password, &mirrored]].concat());
        assert!(got == works && said.contains("401"), "{said}");
        assert_eq!(gets(&wget, &[&quiet[..], &[&*own]].concat()).0, works);
        let arguments = [&["-S", "--tries=1"], &by_proxy[..], &[&*proxy_password, &*upstream]].concat();
        assert_eq!(gets(&wget, &arguments).0, works);
    }
    // By the certificates that the tree knows, and that name the agent.
    for (at, works) in [(0, true), (1, true)] {
        let (pem, key) = (folder.path().join("agent.pem"), folder.path().join("agent.key"));
        let certificate = &site.certificates(0)[at];
        fs::write(&pem, certificate.certificate.pem()).unwrap();
        fs::write(&key, certificate.key.serialize_pem()).unwrap();
        let authority = site.authority().file();
        let url = format!("https://{secure}{MIRRORED}");
        let [pem, key, authority] = [pem, key, authority].map(|path| path.display().to_string());
        for version in [&["--http1.1", "--tls-max", "1.2"][..], &["--http1.1", "--tlsv1.3"], &["--http2"]] {
            let shows = [
                "-sS",
                "--fail",
                "--noproxy",
                "*",
                "--cacert",
                &authority,
                "--cert",
                &pem,
                "--key",
                &key,
                &url,
            ];
            assert_eq!(gets(&curl, &[version, &shows].concat()).0, works, "{HERE} {version:?}");
        }
        let [ca, pem, key] = [
            format!("--ca-certificate={authority}"),
            format!("--certificate={pem}"),
            format!("--private-key={key}"),
        ];
        assert_eq!(gets(&wget, &["-S", "--tries=1", "--no-proxy", &ca, &pem, &key, &url]).0, works);
    }
    assert_eq!(site.origin.seen().connections, connections, "the mirror answered all of it");
    site.relay.stop();
}

//! An agent of one network, which takes trees with stock clients.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::network::Network;
use crate::process::run;
use crate::served::WITHIN;

/// An agent in a namespace.
pub(super) struct Agent<'n> {
    network: &'n Network,
    name: &'n str,
    folder: TempDir,
}

type Files = [(String, Vec<u8>)];

impl<'n> Agent<'n> {
    pub(super) fn new(network: &'n Network, name: &'n str) -> Self {
        Self { network, name, folder: tempfile::tempdir().unwrap() }
    }

    /// Takes all files with curl, over few connections, and compares them.
    pub(super) fn takes_all(&self, way: &str, options: &[&str], base: &str, files: &Files) {
        let folder = self.empty();
        let mut list = String::new();
        for (path, _) in files {
            let _ = writeln!(list, "url = \"{base}{path}\"\noutput = \"{}\"", folder.join(path).display());
        }
        let config = self.folder.path().join("list");
        fs::write(&config, list).unwrap();
        let mut curl = self.network.command(self.name, "curl");
        curl.args(["-sS", "--fail", "--create-dirs", "--max-time", "60"])
            .args(options)
            .arg("-K")
            .arg(&config);
        run(&mut curl, WITHIN).succeeded();
        compare(way, &folder, files);
    }

    /// The same with wget, which keeps the paths below the base.
    pub(super) fn wget_takes_all(&self, way: &str, options: &[&str], base: &str, files: &Files) {
        let folder = self.empty();
        let list: String = files.iter().fold(String::new(), |list, (path, _)| list + base + path + "\n");
        let config = self.folder.path().join("list");
        fs::write(&config, list).unwrap();
        let mut wget = self.network.command(self.name, "wget");
        wget.args(["-q", "-x", "-nH", "--cut-dirs=1", "--tries=1", "--timeout=30"]).args(options);
        wget.arg("-i").arg(&config).current_dir(&folder);
        run(&mut wget, WITHIN).succeeded();
        compare(way, &folder, files);
    }

    /// The manifest as curl gets it.
    pub(super) fn manifest(&self, options: &[&str], base: &str) -> String {
        let mut curl = self.network.command(self.name, "curl");
        curl.args(["-sS", "--fail", "--max-time", "20"]).args(options).arg(format!("{base}server.ini"));
        run(&mut curl, WITHIN).succeeded().stdout
    }

    /// What curl says of what it does not get.
    pub(super) fn refused(&self, options: &[&str], url: &str) -> String {
        let mut curl = self.network.command(self.name, "curl");
        let ended = run(curl.args(["-sS", "--fail", "--max-time", "20"]).args(options).arg(url), WITHIN);
        assert!(!ended.status.success(), "{ended:?}");
        ended.stderr
    }

    fn empty(&self) -> std::path::PathBuf {
        let folder = self.folder.path().join("taken");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }
}

/// Each file is there, byte for byte, and no other.
fn compare(way: &str, folder: &Path, files: &Files) {
    let mut taken = BTreeMap::new();
    collect(folder, folder, &mut taken);
    for (path, bytes) in files {
        assert!(taken.remove(path).as_ref() == Some(bytes), "{way}: {path} is missing or another");
    }
    assert!(taken.is_empty(), "{way}: {:?}", taken.keys());
}

fn collect(root: &Path, folder: &Path, taken: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, taken);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            taken.insert(name, fs::read(&path).unwrap());
        }
    }
}

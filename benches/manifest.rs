//! A manifest of 2 MB, larger than any known: how long reading it and writing a view take.
//!
//! `cargo bench --bench manifest`; RESULTS.md has what it gave.

#![allow(missing_docs, reason = "criterion's macros make public items without any")]
#![allow(clippy::unwrap_used, reason = "a bench may stop like a test")]

use std::fmt::Write;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::manifest::catalogue::{Catalogue, Class};
use forebay::manifest::links::Links;
use forebay::manifest::server_ini::Manifest;
use forebay::manifest::view::{ServerLines, render};

/// Components with 14 increments each, some engines and drivers, and many products, as the largest manifests have them.
fn manifest() -> Bytes {
    let mut text = String::from("[Server]\r\nServer.1=http://upstream.example/activeupdate\r\n[PATTERN]\r\n");
    let mut id = 48_020_000;
    while text.len() < 1_400_000 {
        id += 1;
        let folder = ["icrc", "rr", "en"][id % 3];
        write!(
            text,
            "P.{id}=pattern/{folder}/p{id}_1668300.zip,1668300,21493972\r\nP.{id}.MergeCountEx=14\r\n"
        )
        .unwrap();
        for number in 1..=14 {
            let from = 1_668_300 - 100 * number;
            let path = format!("pattern/{folder}/p{id}_{from}.1668300");
            write!(text, "P.{id}.Merge.{number}={path},{from},{}\r\n", 3090 * number).unwrap();
        }
    }
    text += "[ENGINE]\r\n";
    for id in 0..1000 {
        let label = ["VSAPI32_NT_I386", "SSENGINE_SSAPI32_V6", "TMBM_DRIVER_X64", "NOT_KNOWN_YET"][id % 4];
        write!(text, "E.{id}={label},engine/e{id}_v12500-1004.zip,12.500.1004,1350445,6.510.1002\r\n")
            .unwrap();
    }
    text += "[All_Product]\r\nMaxProductID=745\r\n";
    let mut product = 0;
    while text.len() < 2_000_000 {
        product += 1;
        write!(text, ";EN edition\r\n[Info_{product}_10000_1_1]\r\nVersion=2.5\r\nBuild=1045\r\n").unwrap();
        write!(text, "Path=product/osce14/enu/PLM25_{product}.zip,166427\r\nMin=1.0\r\nMax=3.0\r\n").unwrap();
    }
    text.into()
}

fn benches(criterion: &mut Criterion) {
    let catalogue = Catalogue::builtin();
    let bytes = manifest();
    let manifest = Manifest::read(bytes.clone(), &catalogue).unwrap();
    let servers = ServerLines::Base("http://relay.example/activeupdate");
    let mut group = criterion.benchmark_group("manifest");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read", |bencher| {
        bencher.iter(|| Manifest::read(black_box(bytes.clone()), &catalogue).unwrap());
    });
    group.bench_function("view of patterns", |bencher| {
        bencher.iter(|| {
            render(black_box(&manifest), servers, &Links::default(), &|_| false, |class| {
                class == Class::Pattern
            })
        });
    });
    group.bench_function("view of all, one increment of each pattern withheld", |bencher| {
        let withheld = |path: &forebay::base::path::TreePath| path.as_str().ends_with("67600.1668300");
        bencher.iter(|| render(black_box(&manifest), servers, &Links::default(), &withheld, |_| true));
    });
    group.finish();
}

criterion_group!(manifest_benches, benches);
criterion_main!(manifest_benches);

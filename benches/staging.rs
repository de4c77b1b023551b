//! Staging: bytes that are hashed while they are written, synced, renamed and indexed, against writing and syncing alone.
//!
//! `cargo bench --bench staging`. Besides criterion's figures it prints the ratio of both, taken in turns. Both write
//! pieces of the size that a fill hands on, into the build's folder: it must lie on a real disk to mean anything.

#![allow(missing_docs, reason = "criterion's macros make public items without any")]
#![allow(clippy::unwrap_used, reason = "a bench may stop like a test")]

mod pairs;

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::base::limits::FILL_BATCH_BYTES;
use forebay::disk::Disk;
use forebay::store::Store;
use jiff::Timestamp;
use pairs::Compared;

const SIZES: [(&str, usize, usize); 3] =
    [("64 KiB", 64 << 10, 200), ("1 MiB", 1 << 20, 100), ("64 MiB", 64 << 20, 15)];

/// Writes and syncs a new file, then removes it; the removal is not timed.
fn plain(folder: &Path, bytes: &[u8]) -> Duration {
    let path = folder.join("plain");
    let started = Instant::now();
    let mut file = File::create_new(&path).unwrap();
    for piece in bytes.chunks(FILL_BATCH_BYTES) {
        file.write_all(piece).unwrap();
    }
    file.sync_all().unwrap();
    let took = started.elapsed();
    drop(file);
    std::fs::remove_file(path).unwrap();
    took
}

/// Stages and commits a blob, then removes it; the removal is not timed.
fn staged(store: &Store, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut staged = store.stage(1 << 30).unwrap();
    for piece in bytes.chunks(FILL_BATCH_BYTES) {
        staged.append(piece).unwrap();
    }
    store.commit(staged, Some(bytes.len() as u64), Timestamp::now()).unwrap();
    let took = started.elapsed();
    store.evict(|_| false, u64::MAX);
    took
}

/// Gives the bytes another beginning, so that each blob is a new one.
fn renew(bytes: &mut [u8]) {
    for byte in &mut bytes[..8] {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(&folder.path().join("data"), Disk::default()).unwrap();
    let mut group = criterion.benchmark_group("staging");
    group.sample_size(10);
    for (name, size, turns) in SIZES {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("plain", name), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| plain(folder.path(), &bytes)).sum());
        });
        group.bench_function(BenchmarkId::new("hash alone", name), |bencher| {
            bencher.iter(|| blake3::hash(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("staged", name), |bencher| {
            bencher.iter_custom(|count| {
                let one = |_| {
                    renew(&mut bytes);
                    staged(&store, &bytes)
                };
                (0..count).map(one).sum()
            });
        });
        let turn = |_| {
            renew(&mut bytes);
            let plain = plain(folder.path(), &bytes).as_secs_f64() * 1e9;
            (plain, staged(&store, &bytes).as_secs_f64() * 1e9)
        };
        let turns: Vec<_> = (0..pairs::turns(turns)).map(turn).collect();
        if let Some(compared) = Compared::of(&turns) {
            println!("staging, {name}, in turns: {compared}");
        }
    }
    group.finish();
    store.close();
}

criterion_group!(staging_benches, benches);
criterion_main!(staging_benches);

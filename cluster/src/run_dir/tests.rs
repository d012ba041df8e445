use super::*;

fn new(dir: &Path) -> RunDir {
    let text = JobText { path: "job.toml".into(), text: "schema = 1".into() };
    RunDir::create(dir, &text, serde_json::json!({})).expect("a new directory")
}

#[test]
fn of_many_claims_at_once_exactly_one_wins() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    for round in 0..100 {
        let dir = new(&scratch.path().join(format!("r{round}")));
        let claims: Vec<_> = std::thread::scope(|s| {
            let tasks: Vec<_> = (0..4).map(|_| s.spawn(|| dir.claim())).collect();
            tasks.into_iter().map(|t| t.join().expect("no panic")).collect()
        });
        assert_eq!(claims.iter().filter(|c| c.is_ok()).count(), 1, "round {round}");
        assert!(claims.iter().flatten().all(|c| c.check().is_ok() && c.epoch == 1));
        for error in claims.iter().filter_map(|c| c.as_ref().err()) {
            assert!(matches!(error, Error::Locked { .. }), "{error}");
        }
    }
}

#[test]
fn a_released_or_dead_owner_is_succeeded_and_fenced() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = new(&scratch.path().join("run"));
    drop(dir.claim().expect("free"));
    let second = dir.claim().expect("released");
    assert_eq!(second.epoch, 2);
    assert!(matches!(dir.claim(), Err(Error::Locked { .. })));
    // The owner's process dies: same host, a process number that is gone.
    let file = dir.path.join("owner/e00002.json");
    let text = fs::read_to_string(&file).expect("the owner's file");
    fs::write(
        &file,
        text.replace(
            &format!("\"started_ticks\": {}", started_ticks(std::process::id()).expect("alive")),
            "\"started_ticks\": 1",
        ),
    )
    .expect("written");
    let third = dir.claim().expect("the owner is dead");
    assert_eq!(third.epoch, 3);
    assert!(matches!(second.check(), Err(Error::Fenced { mine: 2, newest: 3, .. })));
}

#[test]
fn a_used_directory_is_refused() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("run");
    let _dir = new(&path);
    let text = JobText { path: "job.toml".into(), text: "schema = 1".into() };
    let again = RunDir::create(&path, &text, serde_json::json!({})).expect_err("used");
    assert!(again.to_string().contains("holds an unfinished run"), "{again}");
    fs::write(scratch.path().join("file"), "x").expect("written");
    let file = RunDir::create(&scratch.path().join("file"), &text, serde_json::json!({})).expect_err("a file");
    assert!(file.to_string().contains("is a file"), "{file}");
}

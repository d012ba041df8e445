use super::*;

const BASE: &str = "schema = 1\nname = \"heat\"\nworkload = \"w\"\n[problem]\nn = 1\n";

fn text(dir: &Path, name: &str, text: &str) -> JobText {
    JobText { path: dir.join(name), text: text.to_owned() }
}

fn made(dir: &Path, more: &str) -> SweepDir {
    let sweep = format!("schema = 1\nname = \"s\"\njob = \"heat.toml\"\nseed = 4\n{more}");
    let text_of_sweep = text(dir, "s.toml", &sweep);
    let sweep = Sweep::read(&text_of_sweep).unwrap();
    let made = SweepDir::new(&dir.join("run"), &sweep, dir, &text(dir, "heat.toml", BASE)).unwrap();
    made.make(&text_of_sweep).unwrap();
    made
}

fn entry(sweep: &SweepDir, array: u32, state: &str, tasks: &str) -> Entry {
    Entry {
        job: 7,
        tasks: Some(tasks.to_owned()),
        state: state.to_owned(),
        reason: String::new(),
        start: String::new(),
        nodes: String::new(),
        run_id: Some(sweep.array_id(array)),
    }
}

#[test]
fn a_sweep_is_read_back_as_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = made(folder.path(), "replicates = 3\n[[vary]]\nkey = \"problem.n\"\nvalues = [5, 6]");
    let again = SweepDir::open(&sweep.path).unwrap();
    assert_eq!(
        (again.points.clone(), again.lock.sweep_id.clone()),
        (sweep.points.clone(), sweep.lock.sweep_id.clone())
    );
    let runs = again.runs();
    let names: Vec<String> = runs.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["00000-000", "00000-001", "00000-002", "00001-000", "00001-001", "00001-002"]);
    assert!(runs.iter().all(|run| run.to_string().parse() == Ok(*run)));
    let job: toml::Table = again.text(runs[4]).unwrap().text.parse().unwrap();
    assert_eq!(job["problem"]["n"].as_integer(), Some(6));
    assert_eq!(job["seed"].as_integer(), Some(study::seed(4, 1, 1) as i64));
    // It is there, and stays as it is.
    let error = sweep.make(&text(folder.path(), "s.toml", "")).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
}

#[test]
fn where_runs_stand_follows_from_files_and_queue() {
    use State::{Complete, Failed, Interrupted, Queued, Running, Waiting};
    let folder = tempfile::tempdir().unwrap();
    let sweep = made(folder.path(), "[[vary]]\nkey = \"problem.n\"\nvalues = [0, 1, 2, 3, 4, 5]");
    let runs = sweep.runs();
    sweep.keep_array(&Array { number: 1, job: Some(7), runs: runs[..4].to_vec() }).unwrap();
    sweep.keep_array(&Array { number: 2, job: Some(8), runs: vec![runs[5]] }).unwrap();
    let outcome =
        |state, exit| Outcome { state, exit, seconds: 1.0, attempts: 1, host: "h".into(), why: String::new() };
    sweep.tell(runs[0], Some(&outcome(Complete, 0))).unwrap();
    sweep.tell(runs[1], Some(&outcome(Failed, 1))).unwrap();
    fs::create_dir(sweep.run_dir(runs[4]).path).unwrap();
    let queue = [
        entry(&sweep, 1, "RUNNING", "2"),
        entry(&sweep, 1, "PENDING", "3%4"),
        entry(&sweep, 1, "COMPLETED", "0-1"),
        entry(&sweep, 2, "RUNNING", "0"),
        Entry { run_id: Some("0badcafe0001".into()), ..entry(&sweep, 1, "RUNNING", "0-3") },
    ];
    let states: Vec<State> = sweep.states(&queue).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Complete, Failed, Running, Queued, Interrupted, Running]);
    // Begun again: what was told before no longer holds.
    sweep.tell(runs[1], None).unwrap();
    assert_eq!(sweep.states(&[])[1].1, Waiting);
}

#[test]
fn asking_for_more_points_leaves_the_others_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = made(folder.path(), "[[vary]]\nkey = \"problem.n\"\nvalues = [5, 6]");
    let more = folder.path().join("more.csv");
    fs::write(&more, "problem.n\n9\n").unwrap();
    let sweep = sweep.extended(&more).unwrap();
    sweep.keep_points().unwrap();
    assert_eq!(sweep.runs().last().unwrap().to_string(), "00002");
    let points = SweepDir::open(&sweep.path).unwrap().points;
    assert_eq!(points, [vec![5.into()], vec![6.into()], vec![toml::Value::Integer(9)]]);
}

#[test]
fn points_of_a_file_are_keys_below_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = |text: &str| fs::write(folder.path().join("p.csv"), text).unwrap();
    file("n,tolerance\n5,1e-3\n6,1e-4\n");
    let rest = "design = \"file\"\nfile = \"p.csv\"\nin = \"problem\"";
    let sweep = made(folder.path(), rest);
    assert_eq!(sweep.lock.keys, ["problem.n", "problem.tolerance"]);
    assert_eq!(sweep.describe(sweep.runs()[1]), "n = 6, tolerance = 0.0001");
    assert!(sweep.text(sweep.runs()[1]).unwrap().text.contains("n = 6"), "{:?}", sweep.text(sweep.runs()[1]));
    // More of them, with the columns in another order.
    file("tolerance,n\n1e-5,7\n");
    let sweep = SweepDir::open(&sweep.path).unwrap().extended(&folder.path().join("p.csv")).unwrap();
    assert_eq!(sweep.points[2], [toml::Value::Integer(7), toml::Value::Float(1e-5)]);
    for (csv, words) in [
        ("n,n\n1,2\n", "problem.n is there twice"),
        ("n,\n1,2\n", "\"problem.\" is no key"),
        ("n\n", "no points in it"),
        ("n\n,\n", "CSV error"),
    ] {
        file(csv);
        let text = text(folder.path(), "s.toml", &format!("schema = 1\nname = \"s\"\njob = \"heat.toml\"\n{rest}"));
        let sweep = Sweep::read(&text).unwrap();
        let error = SweepDir::new(&folder.path().join("other"), &sweep, folder.path(), &text).unwrap_err().to_string();
        assert!(error.contains(words), "{csv:?}\n{error}");
    }
}

use super::*;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Problem {
    size: usize,
}

fn text(body: &str) -> JobText {
    JobText { path: "job.toml".into(), text: body.into() }
}

fn message(body: &str) -> String {
    let text = text(body);
    let error = match text.workload(&["heat", "tomography"]) {
        Ok(_) => text.parse::<Problem>().expect_err("the text is wrong"),
        Err(error) => error,
    };
    format!("{error} | {}", error.advice().unwrap_or("-"))
}

const GOOD: &str = "schema = 1\nname = \"a\"\nworkload = \"heat\"\n[problem]\nsize = 3\n";

#[test]
fn a_good_job_has_the_defaults() {
    let job: Job<Problem> = text(GOOD).parse().expect("good");
    assert_eq!((job.problem.size, job.run, job.seed), (3, Run::default(), 0));
}

#[test]
fn messages_name_line_key_and_expectation() {
    let unknown = GOOD.replace("size = 3", "size = 3\nsizee = 4");
    assert_eq!(message(&unknown), "job.toml:6:1: unknown field `sizee`, expected `size` | did you mean `size`?");
    assert_eq!(
        message(&GOOD.replace("\"heat\"", "\"tomografy\"")),
        "job.toml:3:12: unknown workload \"tomografy\" | did you mean \"tomography\"? `convoke list` shows all"
    );
    assert_eq!(
        message(&GOOD.replace("[problem]", "[run]\nranks = 0\n[problem]")),
        "job.toml:5:9: run.ranks = 0: expected 1 to 1048576 | -"
    );
    let walltime = GOOD.replace("[problem]", "[run]\nwalltime = \"soon\"\n[problem]");
    assert!(message(&walltime).starts_with("job.toml:5:12: 'soon' is not a duration"), "{}", message(&walltime));
    assert!(message("schema = 1\n= 3").starts_with("job.toml:2:1: "));
}

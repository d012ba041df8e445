use std::path::PathBuf;

use convoke_data::formats::safetensors::SafetensorsWriter;
use serde_json::Value;

use super::*;

/// Of tests/peers/scores/make_fixture.py, which ran the published code.
const FIXTURES: [(&str, &str); 3] = [
    ("ncsnpp", include_str!("fixtures/ncsnpp.json")),
    ("guided", include_str!("fixtures/guided.json")),
    ("guided-convolutions", include_str!("fixtures/guided-convolutions.json")),
];

/// Tensor k of the fixtures.
fn formula(k: f64, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| {
        let u = (i as f64 + 1.0) * 0.618_033_988_749_894_9 + (k + 1.0) * 0.754_877_666_246_692_7;
        2.0 * (u - u.floor()) - 1.0
    })
}

struct Fixture {
    card: Value,
    tensors: Vec<(String, Vec<usize>)>,
    cases: Vec<(f64, Vec<f64>)>,
}

fn fixture(name: &str) -> Fixture {
    let text = FIXTURES.iter().find(|(n, _)| *n == name).expect("a fixture").1;
    let all: Value = serde_json::from_str(text).expect("JSON");
    let tensors = serde_json::from_value(all["tensors"].clone()).expect("names and shapes");
    let cases = all["cases"].as_array().expect("cases");
    let numbers = |v: &Value| serde_json::from_value(v.clone()).expect("numbers");
    let cases = cases.iter().map(|c| (c["sigma"].as_f64().expect("sigma"), numbers(&c["denoised"]))).collect();
    Fixture { card: all["card"].clone(), tensors, cases }
}

/// Writes the fixture's network, after `change`.
fn written(fixture: &Fixture, name: &str, change: impl Fn(&str, &mut Vec<f32>)) -> PathBuf {
    let path = std::env::temp_dir().join(format!("convoke-{name}-{}.safetensors", std::process::id()));
    let mut file = SafetensorsWriter::<f32>::create(&path, (ATTRIBUTE, &fixture.card.to_string()), &fixture.tensors)
        .expect("a file");
    for (k, (name, shape)) in fixture.tensors.iter().enumerate() {
        let fan: usize = if name.ends_with(".W") { shape[0] } else { shape.iter().skip(1).product() };
        let (scale, offset) = match shape.len() {
            1 => (0.2, if name.ends_with("weight") || name.ends_with("sigmas") { 1.0 } else { 0.0 }),
            _ => ((3.0 / fan as f64).sqrt(), 0.0),
        };
        let mut values: Vec<f32> =
            formula(k as f64, shape.iter().product()).map(|u| (scale * u + offset) as f32).collect();
        change(name, &mut values);
        file.write(&values).expect("numbers");
    }
    file.commit_replace().expect("a file");
    path
}

/// The published code's outputs for the same parameters, to 2e-5 of the largest: single precision on both sides.
#[test]
fn networks_give_what_the_published_code_gives() {
    for (name, _) in FIXTURES {
        let fixture = fixture(name);
        let path = written(&fixture, name, |_, _| ());
        assert!(holds_one(&path));
        let network = read(&path, "denoiser").expect("a network");
        std::fs::remove_file(&path).expect("a file");
        assert_eq!(network.multiple(), 2, "{name}");
        let parameters: usize = fixture.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let known = network.memory(0, [16, 16]) as usize / 4;
        // The levels of noise of NCSN++ and its frequencies are no parameters of layers.
        assert_eq!(known + if name == "ncsnpp" { 10 + 8 } else { 0 }, parameters, "{name}");
        let x: Vec<f32> = formula(-1.0, 256).map(|u| (0.5 + 0.5 * u) as f32).collect();
        // Two images at once: each on its own.
        let both = [x.clone(), x.iter().map(|v| 1.0 - v).collect()].concat();
        for (sigma, expected) in &fixture.cases {
            let found = network.denoise(&both, [16, 16], *sigma).expect("no device");
            let most = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            let off = found.iter().zip(expected).fold(0.0, |a: f64, (f, e)| a.max((f64::from(*f) - e).abs()));
            assert!(off < 2e-5 * most, "{name} at {sigma}: {off} of {most}");
        }
    }
}

/// What a file lacks, has too much or has wrong is named.
#[test]
fn networks_of_another_architecture_are_refused() {
    let refused = |name: &str, change: &dyn Fn(&mut Fixture), told: &str| {
        let mut fixture = fixture(name);
        change(&mut fixture);
        let path = written(&fixture, &format!("bad-{name}"), |_, _| ());
        let error = read(&path, "problem.method.diffusion.denoiser").expect_err(told).to_string();
        std::fs::remove_file(&path).expect("a file");
        assert!(error.contains(told), "{told}: {error}");
    };
    refused("ncsnpp", &|f| f.tensors.retain(|(n, _)| n != "all_modules.9.Conv_1.bias"), "all_modules.9.Conv_1.bias");
    refused(
        "ncsnpp",
        &|f| f.tensors.push(("all_modules.20.weight".into(), vec![3])),
        "all_modules.20.weight has no place",
    );
    refused("ncsnpp", &|f| f.tensors.retain(|(n, _)| n != "all_modules.0.W"), "Fourier features");
    refused("ncsnpp", &|f| f.card["layout"] = "ddpm".into(), "unknown variant `ddpm`");
    refused("guided", &|f| f.card["blocks"] = 2.into(), "input_blocks.2");
    refused("guided", &|f| f.card["head_channels"] = 48.into(), "no multiple of head_channels = 48");
    refused("guided", &|f| f.card["resampling_blocks"] = false.into(), "input_blocks.2.0.op.weight");
    refused("guided", &|f| f.tensors.push(("label_emb.weight".into(), vec![10, 128])), "told a class");
    let wrong_shape = |f: &mut Fixture| {
        let norm = f.tensors.iter_mut().find(|(n, _)| n == "out.0.weight").expect("a norm");
        norm.1 = vec![64];
    };
    refused("guided", &wrong_shape, "out.0.weight has shape [64], and [32] is due");
    let path = written(&fixture("guided"), "nan", |name, values| {
        if name == "out.2.bias" {
            values[0] = f32::NAN;
        }
    });
    let error = read(&path, "denoiser").expect_err("not finite").to_string();
    std::fs::remove_file(&path).expect("a file");
    assert!(error.contains("out.2.bias has numbers that are not finite"), "{error}");
}

/// ᾱ of the linear schedule's last time is 4.0e-5 (Ho et al. 2020); times and their noise are inverse to each other.
#[test]
fn times_belong_to_their_noise() {
    for schedule in [Schedule::Linear, Schedule::Cosine] {
        let sigmas = schedule.sigmas(1000);
        assert!(sigmas.windows(2).all(|pair| pair[0] < pair[1]));
        for t in [0, 1, 500, 998, 999] {
            assert!((time(&sigmas, sigmas[t]) - t as f64).abs() < 1e-9, "{t}");
        }
        assert!((time(&sigmas, (sigmas[10] * sigmas[11]).sqrt()) - 10.5).abs() < 1e-9);
        assert_eq!([time(&sigmas, 1e-9), time(&sigmas, 1e9)], [0.0, 999.0]);
    }
    let last = Schedule::Linear.sigmas(1000)[999];
    assert!((1.0 / (1.0 + last * last) - 4.04e-5).abs() < 1e-7, "{last}");
}

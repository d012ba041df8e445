//! Job files that come with the workload; the first is what `convoke new` prints.

/// `(name, text)`.
pub const JOBS: &[(&str, &str)] = &[
    ("allen-cahn-2d-mix", include_str!("allen-cahn-2d-mix.toml")),
    ("poisson-1d-sin", include_str!("poisson-1d-sin.toml")),
    ("poisson-1d-mix", include_str!("poisson-1d-mix.toml")),
    ("poisson-1d-sin-cos", include_str!("poisson-1d-sin-cos.toml")),
    ("poisson-1d-x-sin", include_str!("poisson-1d-x-sin.toml")),
    ("poisson-1d-sin-parabola", include_str!("poisson-1d-sin-parabola.toml")),
    ("allen-cahn-1d-sin", include_str!("allen-cahn-1d-sin.toml")),
    ("allen-cahn-1d-sin-cos", include_str!("allen-cahn-1d-sin-cos.toml")),
    ("poisson-2d-sin-sin", include_str!("poisson-2d-sin-sin.toml")),
    ("poisson-2d-additive", include_str!("poisson-2d-additive.toml")),
    ("advection", include_str!("advection.toml")),
    ("helmholtz-2d", include_str!("helmholtz-2d.toml")),
    ("variable-coefficient-2d", include_str!("variable-coefficient-2d.toml")),
    ("wave-2d", include_str!("wave-2d.toml")),
    ("reaction-diffusion", include_str!("reaction-diffusion.toml")),
    ("burgers", include_str!("burgers.toml")),
    ("kdv", include_str!("kdv.toml")),
    ("allen-cahn-3d", include_str!("allen-cahn-3d.toml")),
    ("sparse-2d", include_str!("sparse-2d.toml")),
    ("off-bin-2d", include_str!("off-bin-2d.toml")),
    ("chirp-1d", include_str!("chirp-1d.toml")),
    ("assimilation-2d", include_str!("assimilation-2d.toml")),
    ("inverse-diffusion", include_str!("inverse-diffusion.toml")),
    ("sensors-1d", include_str!("sensors-1d.toml")),
];

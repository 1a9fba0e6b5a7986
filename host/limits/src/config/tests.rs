use super::*;

fn parse(text: &str, by: TenantsBy) -> Result<LimitsConfig, String> {
    LimitsConfig::parse(Path::new("/etc/limits.yaml"), text, by).map_err(|error| error.to_string())
}

fn name(name: &str) -> ModelName {
    name.parse().unwrap()
}

const ALL: &str = "
models:
  - { match: 'acme-*', concurrent: 16, rate: 200, burst: 50, cpu: 0.5, memory: 1GiB, stored: 5GiB, uploads: 10 }
  - { match: '*', rate: 0.5 }
tenants:
  - { name: acme, models: ['acme-*', 'shared'], concurrent: 64, rate: 1000, cpu: 1.5, memory: 4GiB, stored: 20GiB, uploads: 60 }
  - { name: rest, models: ['*'] }
";

#[test]
fn all_of_it_is_read_and_the_first_pattern_that_fits_counts() {
    let config = parse(ALL, TenantsBy::Patterns).unwrap();
    let number = NonZero::new;
    let expected = Quotas {
        concurrent: number(16),
        rate: Some(Rate { per_second: 200.0, burst: number(50).unwrap() }),
        cpu: Some(Cpus(0.5)),
        memory: Some(ByteSize::gib(1)),
        stored: Some(ByteSize::gib(5)),
        uploads: number(10),
    };
    assert_eq!(config.model(&name("acme-a")), Some(expected));
    let rate = Rate { per_second: 0.5, burst: number(1).unwrap() };
    assert_eq!(config.model(&name("iris")), Some(Quotas { rate: Some(rate), ..Quotas::default() }));
    assert_eq!(config.tenants[0].quotas.rate.unwrap().burst, number(1000).unwrap());
    let tenants = ["acme-a", "shared", "iris"].map(|model| config.tenant(&name(model)));
    assert_eq!(tenants, [Some("acme"), Some("acme"), Some("rest")]);
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    for (text, expected) in [
        ("{}", "/etc/limits.yaml: it limits nothing"),
        ("models: [{ match: a, concurent: 1 }]", "concurent"),
        ("modles: []", "modles"),
        ("models: [{ rate: 1 }]", "match"),
        ("models: [{ match: '' }]", "models[0].match: a pattern is empty"),
        ("models: [{ match: 'a[' }]", "models[0].match: 'a[' is no pattern"),
        ("models: [{ match: a }, { match: a }]", "models[1].match: 'a' stands here twice"),
        ("models: [{ match: a, concurrent: 0 }]", "models[0].concurrent: 0 is no limit"),
        ("models: [{ match: a, concurrent: -1 }]", "models[0].concurrent: -1 is no limit"),
        (
            "models: [{ match: a, concurrent: 1.5 }]",
            "models[0].concurrent: 1.5 is no limit: use a whole number",
        ),
        (
            "models: [{ match: a, rate: .nan }]",
            "models[0].rate: NaN is no limit: use a number from 0.001 to 1000000",
        ),
        ("models: [{ match: a, rate: .inf }]", "models[0].rate: inf is no limit"),
        ("models: [{ match: a, rate: 0 }]", "models[0].rate: 0 is no limit"),
        ("models: [{ match: a, rate: 1, burst: 0 }]", "models[0].burst: 0 is no limit"),
        ("models: [{ match: a, burst: 1 }]", "models[0].burst: it says how many calls of `rate`"),
        ("models: [{ match: a, cpu: -0.5 }]", "models[0].cpu: -0.5 is no limit"),
        ("models: [{ match: a, memory: 0 }]", "models[0].memory: 0 is no limit"),
        ("models: [{ match: a, memory: much }]", "models[0].memory: 'much' is no size"),
        ("models: [{ match: a, stored: -1GiB }]", "models[0].stored: '-1GiB' is no size"),
        ("models: [{ match: a, uploads: 1e9 }]", "models[0].uploads: 1000000000 is no limit"),
        ("tenants: [{ name: '', models: [a] }]", "tenants[0].name: it is empty"),
        ("tenants: [{ name: a }]", "tenants[0].models: it is empty"),
        ("tenants: [{ name: a, models: [''] }]", "tenants[0].models: a pattern is empty"),
        (
            "tenants: [{ name: a, models: [a] }, { name: a, models: [b] }]",
            "tenants[1].name: 'a' stands here twice",
        ),
        ("tenants: [{ name: a, models: [a], cpu: 0 }]", "tenants[0].cpu: 0 is no limit"),
    ] {
        let error = parse(text, TenantsBy::Patterns).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn in_a_cluster_labels_stand_in_for_patterns() {
    assert_eq!(parse("tenants: [{ name: a, rate: 1 }]", TenantsBy::Labels).unwrap().tenants.len(), 1);
}

#[test]
fn each_part_of_a_cluster_takes_of_one_file_what_is_its_own() {
    let all = parse(ALL, TenantsBy::Labels).unwrap();
    let gateway = all.clone().only(&[Limit::Concurrent, Limit::Rate, Limit::Stored, Limit::Uploads]);
    for (whole, part) in
        [(all.models[0].quotas, gateway.models[0].quotas), (all.tenants[0].quotas, gateway.tenants[0].quotas)]
    {
        assert!(whole.cpu.is_some() && whole.memory.is_some());
        assert_eq!(part, Quotas { cpu: None, memory: None, ..whole });
    }
    let pod = all.clone().only(&[Limit::Cpu, Limit::Memory]).models[0].quotas;
    let Quotas { cpu, memory, .. } = all.models[0].quotas;
    assert_eq!(pod, Quotas { cpu, memory, ..Quotas::default() });
}

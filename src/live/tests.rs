mod former;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::domain::{Epoch, Facts, ResourceRef, UnixSeconds};
use crate::telemetry::Build;
use crate::wire;
use crate::yaml;

/// Moved by hand.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(0)
    }
    fn uptime(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Setup {
    world: Arc<World>,
    orders: Orders,
    clock: Arc<HandClock>,
    metrics: Arc<Metrics>,
    released: Arc<Mutex<Vec<String>>>,
}

fn setup(settings: Settings) -> Setup {
    let clock = Arc::new(HandClock::default());
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let released = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&released);
    let on_release: Released = Box::new(move |organization| heard.lock().unwrap().push(organization.to_string()));
    let (world, orders) = World::new(settings, clock.clone(), metrics.clone(), on_release);
    Setup { world: Arc::new(world), orders, clock, metrics, released }
}

fn facts(text: &str) -> wire::Facts {
    let node = yaml::parse("facts", text, None).unwrap();
    wire::Facts::read(&node, &|_| panic!("no model file")).unwrap()
}

fn revision(seq: u64) -> Revision {
    Revision { epoch: Epoch(1), seq }
}

fn organization(id: &str) -> OrganizationId {
    id.parse().unwrap()
}

/// A world in which `member` holds `permission` through a role, and nobody holds anything else.
fn world_of(member: &str, permission: &str) -> wire::Facts {
    facts(&format!(
        "{{version: 1, model: {{permissions: [{{slug: 'a:b'}}, {{slug: 'c:d'}}], roles: [{{slug: r, permissions: ['{permission}']}}]}},
          organizations: [{{id: org_1, memberships: [{{id: {member}, user: u, roles: [r]}}]}}]}}"
    ))
}

fn install(world: &World, seq: u64, facts: wire::Facts) -> Result<(), InstallError> {
    world.install_all(revision(seq), &facts.catalog, facts.organizations)
}

#[track_caller]
fn ready(world: &World, id: &str) -> View {
    match world.view(&organization(id)) {
        Lookup::Ready(view) => view,
        other => panic!("{other:?}"),
    }
}

/// Whether the member holds the permission organization-wide in this view.
fn holds(view: &View, member: &str, permission: &str) -> bool {
    let root = ResourceRef::External {
        resource_type: &crate::domain::ResourceTypeSlug::organization(),
        external_id: "org_1".into(),
    };
    view.shard()
        .is_some_and(|shard| shard.check(view.catalog(), &member.parse().unwrap(), &permission.parse().unwrap(), &root))
}

#[test]
fn before_the_first_installation_there_are_no_facts() {
    let Setup { world, .. } = setup(Settings::default());
    assert!(matches!(world.view(&organization("org_1")), Lookup::NoFacts));
    assert_eq!(world.freshness(Duration::from_secs(9)).age, None);
    assert_eq!(world.summary(Duration::ZERO).revision, None);
}

#[test]
fn a_preloaded_world_knows_who_does_not_exist() {
    let Setup { world, .. } = setup(Settings::default());
    install(&world, 1, world_of("om_1", "a:b")).unwrap();
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    assert!(ready(&world, "org_2").shard().is_none());
    assert!(matches!(ready(&world, "org_2").facts(), Facts::Known { shard: None, .. }));
    let summary = world.summary(Duration::ZERO);
    assert_eq!(summary.organizations_resident, 1);
    assert!(summary.bytes > 1000);
}

#[test]
fn readers_during_reloads_see_one_generation_only() {
    let Setup { world, .. } = setup(Settings::default());
    install(&world, 0, world_of("om_even", "a:b")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let mut seen = 0_u64;
            while !done.load(Ordering::Relaxed) || seen == 0 {
                let view = ready(&world, "org_1");
                let (even, odd) = (holds(&view, "om_even", "a:b"), holds(&view, "om_odd", "c:d"));
                let expected = if view.revision().seq.is_multiple_of(2) { (true, false) } else { (false, true) };
                assert_eq!((even, odd), expected, "at {}", view.revision());
                seen += 1;
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for seq in 1..300 {
            let (member, permission) = if seq % 2 == 0 { ("om_even", "a:b") } else { ("om_odd", "c:d") };
            install(&world, seq, world_of(member, permission)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn facts_never_move_backwards_within_one_history() {
    let Setup { world, .. } = setup(Settings::default());
    install(&world, 7, world_of("om_1", "a:b")).unwrap();
    let error = install(&world, 6, world_of("om_2", "a:b")).unwrap_err();
    assert_eq!(error, InstallError::Rollback { offered: revision(6), in_force: revision(7) });
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    let other = Revision { epoch: Epoch(2), seq: 1 };
    let facts = world_of("om_2", "a:b");
    world.install_all(other, &facts.catalog, facts.organizations).unwrap();
    assert!(holds(&ready(&world, "org_1"), "om_2", "a:b"));
}

#[test]
fn rows_that_contradict_each_other_change_nothing() {
    let Setup { world, .. } = setup(Settings::default());
    install(&world, 1, world_of("om_1", "a:b")).unwrap();
    let mut bad = world_of("om_2", "a:b");
    let rows = &mut bad.organizations[0].1;
    let mut circle = rows.resources[0].clone();
    circle.resource_type = "project".parse().unwrap();
    circle.id = "authz_resource_x".parse().unwrap();
    circle.parent = Some(circle.id.clone());
    rows.resources.push(circle);
    let error = install(&world, 2, bad).unwrap_err();
    assert!(matches!(error, InstallError::Organization { .. }), "{error}");
    assert_eq!(ready(&world, "org_1").revision(), revision(1));
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
}

#[test]
fn a_proof_of_freshness_is_never_taken_back() {
    let Setup { world, .. } = setup(Settings::default());
    let seconds = Duration::from_secs;
    world.prove(seconds(10));
    world.prove(seconds(4));
    assert_eq!(world.freshness(seconds(12)).age, Some(seconds(2)));
    world.prove(Duration::ZERO);
    assert_eq!(world.freshness(seconds(12)).age, Some(seconds(2)));
}

/// Installs the catalog of [`world_of`]`("om_1", "a:b")` and gives the rows of its organization.
fn on_demand(world: &World, seq: u64) -> OrganizationRows {
    let mut facts = world_of("om_1", "a:b");
    world.install_catalog(revision(seq), &facts.catalog).unwrap();
    facts.organizations.remove(0).1
}

#[tokio::test(start_paused = true)]
async fn an_organization_is_ordered_once_however_many_wait() {
    let Setup { world, mut orders, .. } = setup(Settings::default());
    let rows = on_demand(&world, 1);
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));
    let mut waiting = JoinSet::new();
    for _ in 0..100 {
        let world = world.clone();
        waiting.spawn(async move { world.load(&organization("org_1")).await });
    }
    let order = orders.next().await.unwrap();
    tokio::task::yield_now().await;
    world.deliver(order, world.generation(), Ok(Some(rows))).unwrap();
    assert_eq!(waiting.join_all().await, vec![Ok(()); 100]);
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    drop(world);
    assert!(orders.next().await.is_none(), "there was a second order");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_a_bounded_time_and_the_load_goes_on() {
    let Setup { world, mut orders, metrics, .. } = setup(Settings::default());
    let rows = on_demand(&world, 1);
    let began = tokio::time::Instant::now();
    assert_eq!(world.load(&organization("org_1")).await, Err(LoadError::TimedOut));
    assert_eq!(began.elapsed().as_millis(), 250);
    let order = orders.next().await.unwrap();
    world.deliver(order, world.generation(), Ok(Some(rows))).unwrap();
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    let text = metrics.render();
    assert!(text.contains("portcullis_organization_loads_total{result=\"timed_out\"} 1"), "{text}");
    assert!(text.contains("portcullis_organization_loads_total{result=\"loaded\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_remembered_for_a_while() {
    for (unknown_for, remembered) in [(Duration::from_secs(3600), true), (Duration::ZERO, false)] {
        let Setup { world, mut orders, .. } = setup(Settings { unknown_for, ..Settings::default() });
        on_demand(&world, 1);
        let org_9 = organization("org_9");
        let load = tokio::join!(world.load(&org_9), async {
            let order = orders.next().await.unwrap();
            world.deliver(order, world.generation(), Ok(None)).unwrap();
        });
        assert_eq!(load.0, Ok(()));
        match world.view(&organization("org_9")) {
            Lookup::Ready(view) => assert!(remembered && view.shard().is_none()),
            other => assert!(!remembered, "{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_in_another_history_is_fetched_again() {
    let Setup { world, mut orders, .. } = setup(Settings::default());
    let rows = on_demand(&world, 1);
    let before = world.generation();
    let _ = world.load(&organization("org_1")).await;
    let order = orders.next().await.unwrap();
    let other = |epoch| {
        let facts = world_of("om_1", "a:b");
        world.install_catalog(Revision { epoch: Epoch(epoch), seq: 1 }, &facts.catalog).unwrap();
    };
    other(2);
    let order = world.deliver(order, before, Ok(Some(rows.clone()))).unwrap_err();
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));
    world.deliver(order, world.generation(), Ok(Some(rows))).unwrap();
    assert_eq!(ready(&world, "org_1").revision().epoch, Epoch(2));
    other(3);
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident), "a resident of an earlier history");
}

/// A world of the catalog of [`world_of`]`("om_1", "a:b")`, with its organization resident.
async fn with_resident(seq: u64) -> Setup {
    let mut setup = setup(Settings::default());
    let rows = on_demand(&setup.world, seq);
    let _ = setup.world.load(&organization("org_1")).await;
    let order = setup.orders.next().await.unwrap();
    setup.world.deliver(order, setup.world.generation(), Ok(Some(rows))).unwrap();
    setup
}

fn change(seq: u64, catalog: &str, organization: &str) -> Transaction {
    let parts = [
        (catalog, "{\"catalog\":{\"changes\":[#]}}"),
        (organization, "{\"organization\":{\"id\":\"org_1\",\"delta\":{\"changes\":[#]}}}"),
    ];
    let parts = parts.iter().filter(|(changes, _)| !changes.is_empty());
    let parts = parts.map(|(changes, frame)| serde_json::from_str(&frame.replace('#', changes)).unwrap()).collect();
    Transaction { seq, parts }
}

const R_HAS: fn(&str) -> String = |permission| {
    format!(
        "{{\"put\":{{\"role\":{{\"id\":\"role_r\",\"slug\":\"r\",\"resource_type\":\"organization\",\"priority\":0,\"permissions\":[\"{permission}\"]}}}}}}"
    )
};
const TAKE_R: &str = r#"{"delete":{"assignment":{"membership":"om_1","role":"role_r"}}}"#;
const GIVE_R: &str = r#"{"put":{"assignment":{"membership":"om_1","role":"role_r"}}}"#;

#[tokio::test(start_paused = true)]
async fn changes_are_applied_to_what_is_resident() {
    let Setup { world, .. } = with_resident(1).await;
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    assert_eq!(world.apply(Epoch(1), &change(2, "", TAKE_R)).unwrap(), []);
    assert!(!holds(&ready(&world, "org_1"), "om_1", "a:b"));
    assert_eq!(ready(&world, "org_1").revision(), revision(2));
    world.apply(Epoch(1), &change(3, &R_HAS("c:d"), GIVE_R)).unwrap();
    assert!(holds(&ready(&world, "org_1"), "om_1", "c:d") && !holds(&ready(&world, "org_1"), "om_1", "a:b"));
    world.pass(Epoch(1), 9).unwrap();
    assert_eq!(world.revision(), Some(revision(9)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_applied_is_read_again() {
    let Setup { world, .. } = with_resident(1).await;
    let reset = r#"{"organization":{"id":"org_1","delta":{"reset":{}}}}"#;
    let reset = Transaction { seq: 2, parts: vec![serde_json::from_str(reset).unwrap()] };
    assert_eq!(world.apply(Epoch(1), &reset).unwrap(), [organization("org_1")]);
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));
}

#[tokio::test(start_paused = true)]
async fn changes_of_another_history_or_of_the_past_are_refused() {
    let Setup { world, .. } = with_resident(5).await;
    let take = change(4, "", TAKE_R);
    assert!(matches!(world.apply(Epoch(1), &take), Err(InstallError::Rollback { .. })));
    assert_eq!(world.apply(Epoch(2), &change(6, "", TAKE_R)), Err(InstallError::OtherHistory));
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
}

#[tokio::test(start_paused = true)]
async fn readers_see_a_transaction_whole_or_not_at_all() {
    let Setup { world, .. } = with_resident(1).await;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0_u64;
            while !done.load(Ordering::Relaxed) || seen == 0 {
                // The role has `a:b` while the member lacks the role, and the other way round.
                assert!(!holds(&ready(&world, "org_1"), "om_1", "c:d"), "half a transaction");
                seen += 1;
            }
        });
        for seq in 2..3000 {
            let next =
                if seq % 2 == 0 { change(seq, &R_HAS("c:d"), TAKE_R) } else { change(seq, &R_HAS("a:b"), GIVE_R) };
            world.apply(Epoch(1), &next).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn an_organization_that_comes_to_be_is_read_on_next_use() {
    let Setup { world, mut orders, .. } = setup(Settings::default());
    on_demand(&world, 1);
    let _ = world.load(&organization("org_1")).await;
    world.deliver(orders.next().await.unwrap(), world.generation(), Ok(None)).unwrap();
    assert!(ready(&world, "org_1").shard().is_none());
    assert_eq!(world.apply(Epoch(1), &change(2, "", GIVE_R)).unwrap(), [organization("org_1")]);
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_or_is_dropped_can_be_ordered_again() {
    let Setup { world, mut orders, .. } = setup(Settings::default());
    let rows = on_demand(&world, 1);
    let org_1 = organization("org_1");
    let answer = async |fetched: Option<Result<Option<OrganizationRows>, ()>>, orders: &mut Orders| {
        let order = async {
            let order = orders.next().await.unwrap();
            if let Some(fetched) = fetched {
                world.deliver(order, world.generation(), fetched).unwrap();
            }
        };
        tokio::join!(world.load(&org_1), order).0
    };
    assert_eq!(answer(Some(Err(())), &mut orders).await, Err(LoadError::Failed));
    assert_eq!(answer(None, &mut orders).await, Err(LoadError::Failed));
    assert_eq!(answer(Some(Ok(Some(rows))), &mut orders).await, Ok(()));
    drop(orders);
    assert_eq!(world.load(&organization("org_2")).await, Err(LoadError::Failed));
}

#[tokio::test(start_paused = true)]
async fn residents_make_room_and_newcomers_wait_when_it_is_too_crowded() {
    let weigh = setup(Settings::default());
    let rows = on_demand(&weigh.world, 1);
    let bytes =
        Shard::build(&weigh.world.current.load().catalog, &organization("org_1"), &rows, Settings::default().keep)
            .unwrap()
            .value
            .memory()
            .total()
            .div_ceil(1024)
            * 1024;
    let max_memory = u64::try_from(bytes * 2).unwrap();
    let Setup { world, mut orders, clock, metrics, released } = setup(Settings { max_memory, ..Settings::default() });
    on_demand(&world, 1);
    let mut load = async |id: &str| {
        let id = organization(id);
        let carry_out = async {
            let order = orders.next().await.unwrap();
            world.deliver(order, world.generation(), Ok(Some(rows.clone()))).unwrap();
        };
        tokio::select! {
            biased;
            result = world.load(&id) => result,
            () = async { carry_out.await; std::future::pending().await } => unreachable!(),
        }
    };
    load("org_1").await.unwrap();
    load("org_2").await.unwrap();
    assert!(matches!(world.view(&organization("org_1")), Lookup::Ready(_)), "used last");
    // To change, or to be compared, is no use.
    let part = format!("{{\"organization\":{{\"id\":\"org_2\",\"delta\":{{\"changes\":[{TAKE_R}]}}}}}}");
    world.apply(Epoch(1), &Transaction { seq: 2, parts: vec![serde_json::from_str(&part).unwrap()] }).unwrap();
    assert!(world.digest(&organization("org_2")).is_some() && world.is_resident(&organization("org_2")));
    clock.0.store(60_000, Ordering::Relaxed);
    load("org_3").await.unwrap();
    assert_eq!(*released.lock().unwrap(), ["org_2"]);
    assert!(matches!(world.view(&organization("org_2")), Lookup::NotResident));
    assert!(matches!(world.view(&organization("org_1")), Lookup::Ready(_)));
    // org_2 had its minute. org_3 has to leave as soon as it came: the three of them do not fit.
    load("org_4").await.unwrap();
    assert_eq!(*released.lock().unwrap(), ["org_2", "org_3"]);
    assert_eq!(load("org_5").await, Err(LoadError::NoRoom));
    clock.0.store(61_000, Ordering::Relaxed);
    load("org_5").await.unwrap();
    let text = metrics.render();
    assert!(text.contains("portcullis_organization_loads_total{result=\"no_room\"} 1"), "{text}");
    assert!(world.summary(Duration::ZERO).organizations_resident <= 2);
}

#[tokio::test(start_paused = true)]
async fn an_organization_that_would_fill_the_memory_alone_is_not_let_in() {
    let Setup { world, mut orders, clock, .. } = setup(Settings { max_memory: 1024, ..Settings::default() });
    let rows = on_demand(&world, 1);
    let org_1 = organization("org_1");
    // Whether it was read for the request.
    let mut is_read = async || {
        let read = async {
            let order = tokio::time::timeout(Duration::from_millis(10), orders.next()).await;
            let is_read = order.is_ok();
            if let Ok(Some(order)) = order {
                world.deliver(order, world.generation(), Ok(Some(rows.clone()))).unwrap();
            }
            is_read
        };
        let (loaded, is_read) = tokio::join!(world.load(&org_1), read);
        assert_eq!(loaded, Err(LoadError::NoRoom));
        is_read
    };
    // And it is not read again with every request: after 10 s, 20 s, 40 s …
    for (seconds, expected) in
        [(0, true), (0, false), (9, false), (10, true), (29, false), (30, true), (69, false), (70, true)]
    {
        clock.0.store(seconds * 1000, Ordering::Relaxed);
        assert_eq!(is_read().await, expected, "{seconds} s");
    }
    let _ = tokio::time::timeout(Duration::from_millis(10), world.load(&organization("org_2"))).await;
    assert!(orders.next().await.is_some(), "others are");
}

#[tokio::test(start_paused = true)]
async fn a_resident_is_renewed_by_what_was_read_later_and_by_nothing_else() {
    let Setup { world, mut orders, .. } = setup(Settings::default());
    let rows = on_demand(&world, 1);
    let org_1 = organization("org_1");
    let (generation, seconds) = (world.generation(), Duration::from_secs);
    let arrival = |rows: Option<&OrganizationRows>, at| Arrival {
        shard: rows.map(|rows| world.build(&org_1, rows).unwrap()),
        proven: Some(seconds(at)),
    };
    assert!(!world.renew(&org_1, generation, arrival(Some(&rows), 5)), "nobody asked for it");
    let _ = world.load(&org_1).await;
    world.settle(orders.next().await.unwrap(), generation, Ok(arrival(Some(&rows), 5))).unwrap();
    world.prove(seconds(7));
    let age = |at| ready(&world, "org_1").freshness(seconds(at)).age.unwrap();
    assert_eq!(age(10), seconds(5));
    let without = OrganizationRows { assignments: Vec::new(), ..rows.clone() };
    assert!(!world.renew(&org_1, generation, arrival(Some(&without), 4)), "read earlier");
    assert!(!world.renew(&org_1, generation + 1, arrival(Some(&without), 6)), "of another history");
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));
    let mut changes = world.changes();
    assert!(world.renew(&org_1, generation, arrival(Some(&rows), 8)));
    assert_eq!(ready(&world, "org_1").freshness(seconds(10)).age, Some(seconds(3)), "newer, as far as the catalog");
    assert!(!changes.has_changed().unwrap(), "the same as before: nothing to decide again");
    assert!(world.renew(&org_1, generation, arrival(Some(&without), 9)));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(!holds(&ready(&world, "org_1"), "om_1", "a:b"));
    assert_eq!(age(10), seconds(3), "as old as the catalog, which is older");
    assert_eq!(world.summary(seconds(10)).oldest_ms, Some(3_000));
    assert!(world.renew(&org_1, generation, arrival(None, 10)));
    assert!(changes.has_changed().unwrap());
    assert!(ready(&world, "org_1").shard().is_none());
}

#[tokio::test(start_paused = true)]
async fn it_is_known_which_residents_were_used() {
    let Setup { world, .. } = with_resident(1).await;
    let used = || world.take_uses().into_iter().map(|one| one.used).collect::<Vec<_>>();
    assert_eq!(used(), [true], "it came because somebody asked");
    assert_eq!(used(), [false]);
    let _ = ready(&world, "org_1");
    assert_eq!(used(), [true]);
    assert_eq!(world.residents_having(&"om_1".parse().unwrap()), [organization("org_1")]);
    assert_eq!(world.residents_having(&"om_2".parse().unwrap()), []);
}

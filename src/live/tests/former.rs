//! Residents when everything begins anew.

use futures_util::FutureExt;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Begins another history, in which the role has `c:d`, and its organization's rows.
fn start_over(world: &World, epoch: u64) -> OrganizationRows {
    let mut facts = world_of("om_1", "c:d");
    world.start_over(Revision { epoch: Epoch(epoch), seq: 1 }, &facts.catalog).unwrap();
    facts.organizations.remove(0).1
}

#[tokio::test(start_paused = true)]
async fn what_was_in_memory_stays_in_force_until_it_is_read_again() {
    let Setup { world, mut orders, clock, .. } = with_resident(5).await;
    world.prove(SECOND);
    assert_eq!(world.former(), []);
    let rows = start_over(&world, 2);
    world.prove(2 * SECOND);
    assert!(!world.is_resident(&organization("org_1")) && world.is_former(&organization("org_1")));
    assert_eq!(world.former(), [organization("org_1")]);
    assert_eq!(world.digest(&organization("org_1")), None, "it is not compared with what it will be");

    let view = ready(&world, "org_1");
    assert!(view.is_former() && holds(&view, "om_1", "a:b"), "its role as it was");
    assert_eq!(view.revision(), revision(5));
    clock.0.store(3000, Ordering::Relaxed);
    assert_eq!(view.freshness(3 * SECOND).age, Some(2 * SECOND), "never proven again");
    assert_eq!(world.freshness(3 * SECOND).age, Some(SECOND));
    assert_eq!(world.summary(3 * SECOND).oldest_ms, Some(2000));
    // The new history passes over it.
    assert_eq!(world.apply(Epoch(2), &change(2, "", TAKE_R)).unwrap(), []);
    assert!(holds(&ready(&world, "org_1"), "om_1", "a:b"));

    let mut changes = world.changes();
    changes.mark_unchanged();
    let order = orders.next().now_or_never().flatten().expect("it is on order by being looked at");
    assert!(orders.next().now_or_never().is_none(), "once");
    world.deliver(order, world.generation(), Ok(Some(rows))).unwrap();
    let view = ready(&world, "org_1");
    assert!(!view.is_former() && holds(&view, "om_1", "c:d") && !holds(&view, "om_1", "a:b"));
    assert!(changes.has_changed().unwrap(), "streams that go on are decided again");
    assert_eq!(world.former(), []);
    assert_eq!(world.summary(3 * SECOND).oldest_ms, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_or_of_the_beginning_before_is_gone() {
    let Setup { world, .. } = with_resident(5).await;
    start_over(&world, 2);
    world.forget(&organization("org_1"));
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));

    let Setup { world, .. } = with_resident(5).await;
    start_over(&world, 2);
    start_over(&world, 3);
    assert!(matches!(world.view(&organization("org_1")), Lookup::NotResident));

    // Who is not there may be by now.
    let Setup { world, mut orders, .. } = with_resident(5).await;
    let _ = world.load(&organization("org_9")).await;
    world.deliver(orders.next().await.unwrap(), world.generation(), Ok(None)).unwrap();
    assert!(ready(&world, "org_9").shard().is_none());
    start_over(&world, 2);
    assert!(matches!(world.view(&organization("org_9")), Lookup::NotResident));
    assert_eq!(world.former(), [organization("org_1")]);
}

#[tokio::test(start_paused = true)]
async fn those_that_requests_look_at_are_read_first() {
    let Setup { world, mut orders, .. } = with_resident(5).await;
    let rows = world_of("om_1", "a:b").organizations.remove(0).1;
    for id in ["org_2", "org_3"] {
        let _ = world.load(&organization(id)).await;
        world.deliver(orders.next().await.unwrap(), world.generation(), Ok(Some(rows.clone()))).unwrap();
    }
    let _ = world.take_uses();
    ready(&world, "org_3");
    start_over(&world, 2);
    assert_eq!(world.former().first(), Some(&organization("org_3")));
    assert_eq!(world.former().len(), 3);
}

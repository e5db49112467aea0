//! Administration: rebalancing the local stores over HTTP and on the command line.

use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/admin/stores/rebalance";

async fn two_stores() -> World {
    let world = WorldBuilder::default()
        .another_local("nas")
        .set("stores.minio.capacity", "100kB")
        .set("stores.nas.capacity", "100kB")
        .build()
        .await;
    let user = world.user().await;
    for seed in 0..8 {
        world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await;
    }
    world
}

/// Runs `nightferry --json` with these arguments and returns its document.
async fn document(world: &World, arguments: &[&str]) -> Value {
    let (code, document) = world.json_command(arguments).await;
    assert_eq!(code, 0, "{document}");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_plans_starts_follows_and_stops_a_rebalancing() {
    let world = two_stores().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;

    let plan = admin.get(PATH).await;
    assert_eq!(
        (&plan["tolerance"], &plan["measure"], &plan["rebalance"]),
        (&json!(5), &json!("capacity"), &Value::Null)
    );
    assert_eq!(
        plan["stores"][0],
        json!({ "name": "minio", "capacity_bytes": 100_000, "used_bytes": 80_000, "share": 80.0, "after_bytes": 40_000,
                "after_share": 40.0, "excluded": null })
    );
    assert_eq!(plan["moves"], json!([{ "from": "minio", "to": "nas", "files": 4, "bytes": 40_000 }]));
    assert_eq!(admin.get(&format!("{PATH}?tolerance=40")).await["moves"], json!([]));

    let (status, begun) = answered(admin.request(Method::POST, PATH).json(&json!({ "tolerance": 2 }))).await;
    assert_eq!((status.as_u16(), &begun["state"]), (202, &json!("running")), "{begun}");
    assert_eq!(
        (&begun["files_total"], &begun["files_moved"], &begun["tolerance"]),
        (&json!(4), &json!(0), &json!(2))
    );
    assert_eq!(begun["requested_by"], json!(admin.id));
    let (status, _) = answered(admin.request(Method::DELETE, PATH)).await;
    assert_eq!(status, 204);
    let stopped = admin.get(PATH).await["rebalance"].clone();
    assert_eq!(
        (&stopped["state"], &stopped["files_moved"]),
        (&json!("stopped"), &json!(0)),
        "no worker had started"
    );

    let (status, _) = answered(admin.request(Method::POST, PATH)).await;
    assert_eq!(status, 202);
    let worker = world.start_worker();
    let after = eventually("it is finished", || async {
        let plan = admin.get(PATH).await;
        (plan["rebalance"]["state"] == "finished").then_some(plan)
    })
    .await;
    worker.stop().await;

    assert_eq!((&after["moves"], &after["stores"][1]["share"]), (&json!([]), &json!(40.0)));
    assert_eq!(
        after["rebalance"]["routes"],
        json!([{ "from": "minio", "to": "nas", "files_total": 4, "bytes_total": 40_000, "files_moved": 4,
                 "bytes_moved": 40_000 }])
    );
    let acts = texts(
        &world.context.db,
        "SELECT concat_ws(' ', action, actor_kind, target_type, target_id, detail->>'tolerance') FROM audit_events \
         WHERE action LIKE 'store.%' ORDER BY id",
    )
    .await;
    assert_eq!(
        acts,
        [
            "store.rebalance user stores local 2",
            "store.rebalance_stop user stores local",
            "store.rebalance user stores local 5"
        ]
    );
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_rebalancing_is_rejected_with_a_reason() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let one = problem(admin.request(Method::POST, PATH), 409, "CONFLICT").await;
    assert!(one["detail"].as_str().unwrap().contains("two local stores"), "{one}");
    let cloud = json!({ "role": "cloud" });
    let refused = problem(admin.request(Method::POST, PATH).json(&cloud), 400, "VALIDATION_FAILED").await;
    assert_eq!(refused["errors"][0]["field"], "role");
    assert!(refused["detail"].as_str().unwrap().contains("policy"), "{refused}");
    for query in ["role=cloud", "role=moon", "tolerance=101", "tolerance=x", "other=1"] {
        let (status, answer) = answered(admin.request(Method::GET, &format!("{PATH}?{query}"))).await;
        assert_eq!(status, 400, "{query}: {answer}");
    }
    let plan = admin.get(PATH).await;
    assert_eq!((&plan["moves"], &plan["stores"][0]["name"]), (&json!([]), &json!("minio")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_plans_applies_waits_and_stops() {
    let world = two_stores().await;

    let plan = document(&world, &["store", "rebalance"]).await;
    assert_eq!(plan["moves"], json!([{ "from": "minio", "to": "nas", "files": 4, "bytes": 40_000 }]));
    assert_eq!(plan["rebalance"], Value::Null);
    assert_eq!(states(&world).await.get("minio present"), Some(&8), "nothing was changed");
    let text = world.start_process(&["store", "rebalance"]).await;
    assert!(text.ended().await.success(), "{}", text.output());
    for words in ["80.0 %", "40.0 %", "FROM", "store rebalance --apply"] {
        assert!(text.output().contains(words), "{words}: {}", text.output());
    }

    let begun = document(&world, &["store", "rebalance", "--apply"]).await;
    assert_eq!(begun["rebalance"]["state"], "running");
    let stopped = document(&world, &["store", "rebalance", "--stop"]).await;
    assert_eq!((&stopped["was_running"], &stopped["rebalance"]["state"]), (&json!(true), &json!("stopped")));
    let worker = world.start_worker();

    let done = document(&world, &["store", "rebalance", "--apply", "--wait", "--tolerance", "1"]).await;
    assert_eq!(
        (&done["rebalance"]["state"], &done["rebalance"]["files_moved"]),
        (&json!("finished"), &json!(4))
    );
    let again = world.start_process(&["store", "rebalance"]).await;
    assert!(again.ended().await.success(), "{}", again.output());
    assert!(again.stdout().contains("Nothing would be moved"), "{}", again.output());
    let stop = document(&world, &["store", "rebalance", "--stop"]).await;
    assert_eq!(stop["was_running"], false);
    let cloud = world.start_process(&["store", "rebalance", "--role", "cloud"]).await;
    assert!(!cloud.ended().await.success());
    assert!(cloud.output().contains("policy"), "{}", cloud.output());
    worker.stop().await;
    assert_invariants(&world).await;
}

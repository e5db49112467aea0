//! The command line as scripts and supervisors meet it: one document whatever happens, and an end when it is asked for.

use nightferry_tests::harness::World;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_is_none_is_told_in_one_document_too() {
    let world = World::new().await;
    for (arguments, said) in [
        (["--json", "sync", "--frobnicate"], "--frobnicate"),
        (["sync", "show", "--json"], "<RUN>"),
        (["--json", "user", "lsit"], "lsit"),
    ] {
        let process = world.start_process(&arguments).await;
        assert_eq!(process.ended().await.code(), Some(2), "{}", process.output());
        let document: Value = serde_json::from_str(&process.stdout()).expect("one document");
        assert_eq!(
            (&document["error"]["kind"], &document["error"]["exit_code"]),
            (&"usage".into(), &2.into())
        );
        assert!(document["error"]["message"].as_str().unwrap().contains(said), "{document}");
    }
    let plain = world.start_process(&["sync", "--frobnicate"]).await;
    assert_eq!((plain.ended().await.code(), plain.stdout().as_str()), (Some(2), ""));
}

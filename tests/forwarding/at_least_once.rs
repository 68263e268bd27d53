//! Everything, in order, at least once: whatever goes away, and however.

use crate::otlp_receiver::OtlpReceiver;
use crate::receiver::{Receiver, assert_is_the_log, free_port, wait_for_log, wait_until};
use crate::rsyslog::{Rsyslog, RsyslogTls};
use crate::scene::{Application, Scene, read_log};
use crate::webhook_receiver::{WebhookReceiver, accept, refuse};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_was_down_all_the_time_gets_everything_in_order() {
    comes_back::<WebhookReceiver>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otlp_receiver_that_was_down_all_the_time_gets_everything_in_order() {
    comes_back::<OtlpReceiver>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsyslog_that_was_down_all_the_time_gets_everything_in_order() {
    comes_back::<Rsyslog>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsyslog_over_tls_that_was_down_all_the_time_gets_everything_in_order() {
    comes_back::<RsyslogTls>().await;
}

/// Down while the server works, is killed, works on, is stopped and started; then there, away once more, and there.
async fn comes_back<R: Receiver>() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = R::config(port, folder.path());
    let scene = Scene::in_folder(folder, &config).await;
    let application = scene.register("orders/worker", json!({})).await;
    work(&scene, &application).await;
    let folder = scene.kill();
    let scene = Scene::in_folder(folder, &config).await;
    work(&scene, &application).await;
    let folder = scene.stop();
    let scene = Scene::in_folder(folder, &config).await;
    work(&scene, &application).await;

    let receiver = R::start(port, scene.folder.path()).await;
    wait_for_log(&receiver, &scene.log().await).await;
    work(&scene, &application).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert_is_the_log(&received, &scene.log().await, 0);
    receiver.stop().await;

    work(&scene, &application).await;
    let folder = scene.stop();
    let log = read_log(&folder, 0).await;
    assert_eq!(log.last().unwrap().kind(), "ServiceStopped");
    // It keeps nothing, or goes on in the same file: what came before is not expected again either way.
    let from = received.last().unwrap().index + 1;
    let receiver = R::start(port, folder.path()).await;
    let scene = Scene::in_folder(folder, &config).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert!(
        received.iter().any(|event| event.index == log.last().unwrap().index),
        "its stop, too"
    );
    let first = received.first().unwrap().index;
    assert!(first == 0 || first <= from, "{first} is there, {from} is not");
    assert_is_the_log(&received, &scene.log().await, first);
    receiver.stop().await;
    scene.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_delivers_goes_on_where_the_receiver_was() {
    let mut folder = tempfile::tempdir().unwrap();
    // Every third delivery fails, so that there is always something on its way.
    let receiver = WebhookReceiver::with(0, |stream, number| match number % 3 {
        2 => refuse(stream, "500 Oh", ""),
        _ => accept(stream),
    });
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "batch_events = 7\n";
    for _ in 0..4 {
        let scene = Scene::in_folder(folder, &config).await;
        let application = scene
            .register(&format!("orders/{}", scene.log_size().await), json!({}))
            .await;
        work(&scene, &application).await;
        let before = receiver.received().len();
        wait_until("something arrives", || receiver.received().len() > before).await;
        folder = scene.kill();
    }
    let scene = Scene::in_folder(folder, &config).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert_is_the_log(&received, &scene.log().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_now_and_stays_there_when_the_server_is_killed_before_anything_is_acknowledged() {
    let folder = Scene::start().await.stop();
    let port = free_port();
    let config = WebhookReceiver::config(port, folder.path()).replace("beginning", "now");
    let scene = Scene::in_folder(folder, &config).await;
    let checkpoint = std::fs::read_to_string(scene.folder.path().join("data/forwarding/hook.json")).unwrap();
    let checkpoint: serde_json::Value = serde_json::from_str(&checkpoint).unwrap();
    let start = checkpoint["next"].as_u64().unwrap();
    let log = scene.log().await;
    assert!(start > 0);
    assert!(
        log[start as usize - 1].kind() == "ServiceStarted" || log.len() as u64 >= start,
        "{start}: {log:?}"
    );
    let application = scene.register("orders/worker", json!({})).await;
    work(&scene, &application).await;
    let scene = Scene::in_folder(scene.kill(), &config).await;
    let receiver = WebhookReceiver::start(port, scene.folder.path()).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert_eq!(received[0].index, start);
    assert_is_the_log(&received, &scene.log().await, start);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rolled_back_is_forwarded_again() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = WebhookReceiver::with(0, |stream, _| accept(stream));
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "batch_events = 100\n";
    let scene = Scene::in_folder(folder, &config).await;
    let folder = scene.stop();
    let (data, older) = (folder.path().join("data"), folder.path().join("older"));
    copy(&data, &older);
    let scene = Scene::in_folder(folder, &config).await;
    let application = scene.register("orders/worker", json!({})).await;
    work(&scene, &application).await;
    wait_for_log(&receiver, &scene.log().await).await;
    let folder = scene.stop();
    // The log of before, and a checkpoint of after.
    std::fs::rename(data.join("forwarding/hook.json"), older.join("forwarding/hook.json")).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
    let before = receiver.requests().len();
    let scene = Scene::in_folder(folder, &config).await;
    let log = scene.log().await;
    let again = || {
        let events = receiver.requests()[before..]
            .iter()
            .flat_map(|request| request.events())
            .collect::<Vec<_>>();
        events
            .iter()
            .map(|event| crate::receiver::Received::of(&event["data"]))
            .collect::<Vec<_>>()
    };
    wait_until("the log arrives again", || again().len() >= log.len()).await;
    assert_is_the_log(&again(), &scene.log().await, 0);
    assert!(scene.server.stderr().contains("it was rolled back or replaced"));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Tokens and refusals.
async fn work(scene: &Scene, application: &Application) {
    for _ in 0..3 {
        for _ in 0..5 {
            scene.token(application, &[]).await;
        }
        scene.ask(&application.client_id, "wrong", &[]).await;
    }
}

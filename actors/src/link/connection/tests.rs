use super::*;

fn link() -> Arc<ConnectionLink> {
    let addr = "127.0.0.1:1".parse().expect("an address");
    let path = NetPath { local: addr, remote: addr };
    Arc::new(ConnectionLink::new(Role::Client, path, &TransportConfig::default()))
}

#[tokio::test]
async fn streams_open_up_to_the_limit_and_then_wait_for_more() {
    let link = link();
    link.on_streams_available(StreamType::Bidirectional, 1);
    let first = link.open(StreamType::Bidirectional).await.expect("within the limit");
    let waiting = tokio::spawn({
        let link = link.clone();
        async move { link.open(StreamType::Bidirectional).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    link.on_streams_available(StreamType::Bidirectional, 2);
    let second = waiting.await.expect("not cancelled").expect("within the limit");
    assert_eq!((first.id().as_varint().as_u64(), second.id().as_varint().as_u64()), (0, 4));
    let commands = link.take_commands(Vec::new());
    assert!(
        matches!(&commands[..], [Command::Open(a), Command::Open(b)] if a.id() == first.id() && b.id() == second.id())
    );
}

#[tokio::test]
async fn a_cancelled_wait_takes_nothing_with_it() {
    let link = link();
    {
        let accept = link.accept(StreamType::Unidirectional);
        tokio::pin!(accept);
        assert!(futures_poll(accept.as_mut()).is_none());
    }
    let id = StreamId::nth(Role::Server.endpoint_type(), StreamType::Unidirectional, 0).expect("a stream ID");
    link.on_stream_opened(id, false);
    assert_eq!(link.accept(StreamType::Unidirectional).await.expect("it waits").id(), id);
}

#[tokio::test]
async fn closing_wakes_everybody_and_the_first_reason_stays() {
    let link = link();
    let waits = [
        tokio::spawn({
            let link = link.clone();
            async move { link.established().await.is_err() }
        }),
        tokio::spawn({
            let link = link.clone();
            async move { link.open(StreamType::Bidirectional).await.is_err() }
        }),
        tokio::spawn({
            let link = link.clone();
            async move { link.accept(StreamType::Bidirectional).await.is_err() }
        }),
        tokio::spawn({
            let link = link.clone();
            async move { link.receive_datagram().await.is_err() }
        }),
    ];
    tokio::task::yield_now().await;
    link.on_closed(CloseReason::IdleTimeout);
    link.on_closed(CloseReason::Ended);
    for wait in waits {
        assert!(wait.await.expect("not cancelled"));
    }
    assert_eq!(link.closed().await, CloseReason::IdleTimeout);
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

//! The client's side of the work.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

use super::{
    pattern::{Checker, pattern},
    plan::{Exchange, Failure, Plan, Report},
    server::{BEFORE_BREAKING, CHUNK, SHUT_DOWN_WITHIN, fill, send_pattern},
};
use crate::{
    cert::{ALPN, SERVER_NAME},
    peers::{Connection, DONE, Endpoint, Fault, Receiver, Sender},
};

/// Bytes of a SHA-256.
const DIGEST: usize = 32;

/// Carries out a plan with a server, within a time.
///
/// # Errors
/// What went wrong first. Past the deadline: how far each exchange came.
pub async fn carry_out<E: Endpoint>(
    mut endpoint: E,
    to: SocketAddr,
    plan: &Plan,
    deadline: Duration,
) -> Result<Report, Failure> {
    let start = Instant::now();
    let ledger = Ledger::default();
    let work = async {
        let mut report = Report::default();
        for _ in 0..plan.connections {
            connect_and_work(&mut endpoint, to, plan, &ledger, &mut report).await?;
        }
        Ok::<_, Failure>(report)
    };
    let outcome = tokio::time::timeout(deadline, work).await;
    let failure = match outcome {
        Ok(Ok(mut report)) => {
            report.took = start.elapsed();
            return shut_down(endpoint, report).await;
        }
        Ok(Err(Failure(failure))) => failure,
        Err(_) => format!("not done after {deadline:?}"),
    };
    Err(Failure(format!("{failure}; {}\n  {}", ledger.unfinished(), endpoint.describe())))
}

async fn shut_down<E: Endpoint>(endpoint: E, report: Report) -> Result<Report, Failure> {
    if tokio::time::timeout(SHUT_DOWN_WITHIN, endpoint.shutdown()).await.is_err() {
        return Err(Failure("the client's endpoint did not shut down in time".into()));
    }
    Ok(report)
}

async fn connect_and_work<E: Endpoint>(
    endpoint: &mut E,
    to: SocketAddr,
    plan: &Plan,
    ledger: &Ledger,
    report: &mut Report,
) -> Result<(), Failure> {
    ledger.note(0, |line| line.state = "handshake");
    let connection =
        endpoint.connect(to, SERVER_NAME).await.map_err(|fault| Failure(format!("connect: {fault}")))?;
    ledger.done(0);
    if connection.alpn().as_deref() != Some(ALPN) {
        return Err(Failure(format!("ALPN: {:?}", connection.alpn())));
    }
    report.connections += 1;
    let answers = Answers::<E::Connection>::default();
    let collector = tokio::task::spawn_local(answers.clone().collect(connection.clone()));
    let turns = Rc::new(Semaphore::new(plan.at_once));
    let mut running = JoinSet::new();
    for (number, exchange) in (1..).zip(plan.exchanges.iter().copied()) {
        let turns = turns.clone();
        let worker = Worker {
            connection: connection.clone(),
            answers: answers.clone(),
            ledger: ledger.clone(),
            number,
            seed: number << 1,
        };
        running.spawn_local(async move {
            let _turn = turns.acquire().await;
            let done = worker.carry_out(exchange).await;
            done.map_err(|failure| Failure(format!("exchange {number}, {exchange:?}: {failure}")))
        });
    }
    while let Some(done) = running.join_next().await {
        let (up, down) = done.map_err(|error| Failure(error.to_string()))??;
        report.exchanges += 1;
        report.up += up;
        report.down += down;
    }
    collector.abort();
    connection.close(DONE);
    Ok(())
}

/// One exchange at work.
struct Worker<C: Connection> {
    connection: C,
    answers: Answers<C>,
    ledger: Ledger,
    number: u64,
    seed: u64,
}

impl<C: Connection> Worker<C> {
    async fn carry_out(self, exchange: Exchange) -> Result<(u64, u64), Failure> {
        self.ledger.note(self.number, |line| line.state = "opening");
        let request = Bytes::copy_from_slice(&exchange.encode(self.seed));
        if let Exchange::Apart { up, down } = exchange {
            let mut sender = self.connection.open_uni().await?;
            sender.send(request).await?;
            let answer = async {
                let (receiver, rest) = self.answers.wait(self.seed).await?;
                self.check(receiver, rest, down).await
            };
            let (sent, got) = tokio::join!(self.send(sender, up), answer);
            self.compare(sent?, &got?)?;
        } else {
            let (mut sender, receiver) = self.connection.open_bi().await?;
            sender.send(request).await?;
            self.both(exchange, sender, receiver).await?;
        }
        self.ledger.done(self.number);
        Ok(exchange.bytes())
    }

    async fn both(
        &self,
        exchange: Exchange,
        mut sender: C::Sender,
        mut receiver: C::Receiver,
    ) -> Result<(), Failure> {
        match exchange {
            Exchange::Both { up, down } | Exchange::Apart { up, down } => {
                let (sent, got) =
                    tokio::join!(self.send(sender, up), self.check(receiver, Bytes::new(), down));
                self.compare(sent?, &got?)
            }
            Exchange::ServerResets(code) => {
                sender.finish().await?;
                let end = loop {
                    match receiver.receive().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return Err(Failure("the stream ended instead of a reset".into())),
                        Err(fault) => break fault,
                    }
                };
                expect(&end, &Fault::Reset(code))
            }
            Exchange::ServerStops(code) => {
                let end = match send_pattern(&mut sender, self.seed, u64::MAX).await {
                    Err(fault) => fault,
                    Ok(()) => return Err(Failure("all was sent".into())),
                };
                expect(&end, &Fault::Stopped(code))?;
                while receiver.receive().await?.is_some() {}
                Ok(())
            }
            Exchange::ClientResets(code) => {
                send_pattern(&mut sender, self.seed, BEFORE_BREAKING).await?;
                let rest = fill(&mut receiver, &mut [0]).await?;
                sender.reset(code);
                told(&mut receiver, rest, code).await
            }
            Exchange::ClientStops(code) => {
                fill(&mut receiver, &mut [0; BEFORE_BREAKING as usize]).await?;
                receiver.stop(code);
                let (mut answer, rest) = self.answers.wait(self.seed).await?;
                told(&mut answer, rest, code).await?;
                Ok(sender.finish().await?)
            }
        }
    }

    /// Sends the pattern and the end; returns its SHA-256.
    async fn send(&self, mut sender: C::Sender, count: u64) -> Result<Vec<u8>, Fault> {
        let mut context = Context::new(&SHA256);
        let mut offset = 0;
        while offset < count {
            let bytes = pattern(self.seed, offset, CHUNK.min((count - offset) as usize));
            offset += bytes.len() as u64;
            context.update(&bytes);
            sender.send(bytes).await?;
            self.ledger.note(self.number, |line| line.up = offset);
        }
        sender.finish().await?;
        self.ledger.note(self.number, |line| line.state = "sent all");
        Ok(context.finish().as_ref().to_vec())
    }

    /// Reads the pattern, and returns what comes behind it: the server's SHA-256.
    async fn check(&self, mut receiver: C::Receiver, rest: Bytes, count: u64) -> Result<Vec<u8>, Failure> {
        let mut checker = Checker::new(self.seed + 1);
        let mut digest = Vec::new();
        let mut next = Some(rest);
        while let Some(mut bytes) = next {
            let of_pattern = bytes.len().min((count - checker.seen()) as usize);
            checker.take(bytes.split_to(of_pattern)).map_err(Failure)?;
            digest.extend_from_slice(&bytes);
            self.ledger.note(self.number, |line| line.down = checker.seen() + digest.len() as u64);
            next = receiver.receive().await?;
        }
        if checker.seen() != count || digest.len() != DIGEST {
            let got = checker.seen() + digest.len() as u64;
            return Err(Failure(format!("{got} bytes came instead of {}", count + DIGEST as u64)));
        }
        Ok(digest)
    }

    fn compare(&self, sent: Vec<u8>, received: &[u8]) -> Result<(), Failure> {
        if sent == received { Ok(()) } else { Err(Failure("the server's SHA-256 is another".into())) }
    }
}

fn expect(got: &Fault, expected: &Fault) -> Result<(), Failure> {
    if got == expected { Ok(()) } else { Err(Failure(format!("expected {expected:?}, got {got:?}"))) }
}

/// Reads the code that the server saw.
async fn told(receiver: &mut impl Receiver, rest: Bytes, code: u64) -> Result<(), Failure> {
    let mut bytes = rest.to_vec();
    while let Some(more) = receiver.receive().await? {
        bytes.extend_from_slice(&more);
    }
    if bytes == code.to_be_bytes() {
        return Ok(());
    }
    Err(Failure(format!("the server saw {bytes:?} instead of code {code}")))
}

type Answer<C> = (<C as Connection>::Receiver, Bytes);

/// Hands the server's streams to the exchanges they answer.
struct Answers<C: Connection> {
    state: Rc<RefCell<AnswerState<C>>>,
}

struct AnswerState<C: Connection> {
    arrived: HashMap<u64, Answer<C>>,
    awaited: HashMap<u64, oneshot::Sender<Answer<C>>>,
}

impl<C: Connection> Answers<C> {
    async fn collect(self, connection: C) {
        while let Ok(mut receiver) = connection.accept_uni().await {
            let state = self.state.clone();
            tokio::task::spawn_local(async move {
                let mut seed = [0; 8];
                // A stream without a whole seed has no one to tell; whoever waits for it runs into its deadline.
                let Ok(rest) = fill(&mut receiver, &mut seed).await else { return };
                let seed = u64::from_be_bytes(seed);
                let mut state = state.borrow_mut();
                match state.awaited.remove(&seed) {
                    Some(waiter) => drop(waiter.send((receiver, rest))),
                    None => drop(state.arrived.insert(seed, (receiver, rest))),
                }
            });
        }
    }

    async fn wait(&self, seed: u64) -> Result<Answer<C>, Failure> {
        let waiting = {
            let mut state = self.state.borrow_mut();
            if let Some(answer) = state.arrived.remove(&seed) {
                return Ok(answer);
            }
            let (waiter, waiting) = oneshot::channel();
            state.awaited.insert(seed, waiter);
            waiting
        };
        waiting.await.map_err(|_| Failure("no answer comes any more".into()))
    }
}

impl<C: Connection> Clone for Answers<C> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<C: Connection> Default for Answers<C> {
    fn default() -> Self {
        let state = AnswerState { arrived: HashMap::new(), awaited: HashMap::new() };
        Self { state: Rc::new(RefCell::new(state)) }
    }
}

/// How far everything that is not done has come, for the message of a deadline.
#[derive(Clone, Default)]
struct Ledger {
    lines: Rc<RefCell<BTreeMap<u64, Line>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    state: &'static str,
    up: u64,
    down: u64,
}

impl Ledger {
    fn note(&self, number: u64, change: impl FnOnce(&mut Line)) {
        change(self.lines.borrow_mut().entry(number).or_default());
    }

    fn done(&self, number: u64) {
        self.lines.borrow_mut().remove(&number);
    }

    fn unfinished(&self) -> String {
        let lines = self.lines.borrow();
        let shown = lines.iter().take(5).map(|(number, line)| match number {
            0 => "the handshake".into(),
            _ => format!("exchange {number} ({}, {} up, {} down)", line.state, line.up, line.down),
        });
        format!("{} unfinished: {}", lines.len(), shown.collect::<Vec<_>>().join(", "))
    }
}

//! `preview`: a port of this machine that leads to a service in a task's sandbox, for as long as this command runs.

use std::{
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
};

use api::wire::{self, Environment, attach::BYTES_PROTOCOL};
use domain::{Fault, ids::TaskId};

use super::Context;
use crate::{
    Exit,
    cli::Preview,
    client::{Client, of_task},
    terminal::{self, Form, clean},
};

pub fn preview(context: &Context, args: &Preview) -> Result<Exit, Fault> {
    let task = args.of.task;
    let environment: Environment = context.client.get_json(&of_task(task, "environment"))?;
    let services = &environment.definition.services;
    let port = args.port.or_else(|| services.iter().find_map(|service| service.port)).ok_or_else(|| {
        Fault::input(format!("no service of {task} names a port"))
            .hint(format!("name one: `overnight preview {task} 3000`; `overnight env show` lists the services"))
    })?;
    let asked = wire::Preview { attempt: args.attempt, port: Some(port) };
    // Once before anybody is sent there: what is wrong is told here, and services are started.
    connect(&context.client, task, &asked)?;
    let listener = listen(port, args.listen)?;
    let address = listener.local_addr().map_err(|error| unusable(&error))?;
    match context.form {
        Form::Json => {
            let services: Vec<_> = services.iter().map(|service| &service.name).collect();
            let told = serde_json::json!({ "url": format!("http://{address}"), "port": port, "services": services });
            terminal::print(&format!("{told}\n"));
        }
        Form::Text => {
            for service in services {
                let port = service.port.map_or_else(|| "no port".to_owned(), |port| format!("port {port}"));
                terminal::print_error(&format!("{}: {} · {port}\n", clean(&service.name), clean(&service.command)));
            }
            terminal::print(&format!("http://{address}  →  port {port} of {task}; Ctrl-C ends it\n"));
        }
    }
    for connection in listener.incoming() {
        let connection = connection.map_err(|error| unusable(&error))?;
        let (client, asked) = (context.client.clone(), asked.clone());
        thread::spawn(move || {
            if let Err(fault) = connect(&client, task, &asked).and_then(|inside| forward(connection, inside)) {
                terminal::print_fault(&fault, Form::Text);
            }
        });
    }
    Ok(Exit::Well)
}

/// One connection to the service.
fn connect(client: &Client, task: TaskId, asked: &wire::Preview) -> Result<BufReader<UnixStream>, Fault> {
    client.upgrade(&of_task(task, "preview"), BYTES_PROTOCOL, asked)
}

/// The port that was asked for; else the same as inside, or any.
fn listen(inside: u16, asked: Option<u16>) -> Result<TcpListener, Fault> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match asked {
        Some(port) => bind(port).map_err(|error| {
            Fault::environment(format!("127.0.0.1:{port} cannot be listened on: {error}"))
                .hint("choose another with `--listen`, or leave it out")
        }),
        None => bind(inside).or_else(|_| bind(0)).map_err(|error| unusable(&error)),
    }
}

fn unusable(error: &io::Error) -> Fault {
    Fault::environment(format!("no port of 127.0.0.1 can be listened on: {error}"))
}

/// Both ways, until both sides have nothing more to say.
fn forward(outside: TcpStream, inside: BufReader<UnixStream>) -> Result<(), Fault> {
    let broken = |error: io::Error| Fault::environment(format!("a connection cannot be forwarded: {error}"));
    let (from_outside, to_inside) =
        (outside.try_clone().map_err(broken)?, inside.get_ref().try_clone().map_err(broken)?);
    let there = thread::spawn(move || {
        copy(from_outside, &to_inside);
        let _ = to_inside.shutdown(Shutdown::Write);
    });
    copy(inside, &outside);
    let _ = outside.shutdown(Shutdown::Write);
    let _ = there.join();
    Ok(())
}

/// Until either side hangs up, which is how connections end.
fn copy(mut from: impl Read, mut to: impl Write) {
    let _ = io::copy(&mut from, &mut to);
}

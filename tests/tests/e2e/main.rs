//! Everything that takes more than one process, against real servers: one binary, a module an area.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod bus;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod ingest;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod orchestrator;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod ssh;
#[cfg(test)]
mod store;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod whole;

//! Makes an inventory fit its message: what matters least goes first.

use pinacle_bus::contract::{Message, encode, inventory::Inventory};

/// What a reader takes of each at most.
const MOST_ENTRIES: usize = 4096;
const MOST_PORTS: usize = 65_536;

/// Leaves out images, then ports, then networks, then containers that are not ours, then the rest of them, as far as it
/// takes, and says so.
pub fn fit(inventory: &mut Inventory) {
    // Ours come first, so that they go last.
    inventory.containers.sort_by_key(|container| container.pod_id.is_none());
    let before = count(inventory);
    inventory.images.truncate(MOST_ENTRIES);
    inventory.networks.truncate(MOST_ENTRIES);
    inventory.containers.truncate(MOST_ENTRIES);
    inventory.ports.truncate(MOST_PORTS);
    while !fits(inventory) {
        if !inventory.images.is_empty() {
            halve(&mut inventory.images);
        } else if !inventory.ports.is_empty() {
            halve(&mut inventory.ports);
        } else if !inventory.networks.is_empty() {
            halve(&mut inventory.networks);
        } else if !inventory.containers.is_empty() {
            halve(&mut inventory.containers);
        } else {
            break;
        }
    }
    inventory.truncated = count(inventory) < before;
}

fn halve<T>(entries: &mut Vec<T>) {
    entries.truncate(entries.len() / 2);
}

fn count(inventory: &Inventory) -> usize {
    inventory.images.len() + inventory.ports.len() + inventory.networks.len() + inventory.containers.len()
}

fn fits(inventory: &Inventory) -> bool {
    encode(inventory).is_ok_and(|payload| payload.len() <= Inventory::MAX_BYTES)
}

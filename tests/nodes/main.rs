//! Several nodes on one log, in one process: what they do at the same time neither fails nor doubles, what one decides
//! on an old state overwrites nothing, and a node that does not know the log's newest state decides nothing.

mod node;
mod shared_log;

mod cut_off;

mod starting_together;

mod changing_together;

mod late_state;

mod sessions;

mod without_a_trail;

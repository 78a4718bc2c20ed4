//! The gateway's answers: ARP, neighbour advertisements, echo replies, written into the scratch buffer.

//! One pCPU's side: whether it runs guests, whose state it holds, and its tags (ASIDs, VPIDs).

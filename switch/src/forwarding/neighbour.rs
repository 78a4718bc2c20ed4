//! Who answers for whom: the neighbour rules.

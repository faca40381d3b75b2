"""The incentive rule, pure: who is penalised, who is paid, and why; no I/O, no clock, the same at every site.

`helping` (judges' losses to help), `copies`, `evidence`, `members` (ladder) and `geometry` (influence) are its parts,
`rule` puts them together. `appeal`, `holdout` and `sources` are the way for a member to show that its data are real.
"""

"""Many runs: plan, launch, track and follow them."""

"""`./run_local.sh`: the whole job on this machine, against stand-ins, and whether what arrived is what was due."""

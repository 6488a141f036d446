#!/bin/sh
# Every case as a line of TAP. Fails when a case does.
cd "$(dirname "$0")" || exit 2
count=0 failed=0

compare() { # A EXPECTED B
    count=$((count + 1))
    found=$(sh ./vercmp "$1" "$3")
    if [ "$found" = "$2" ]; then
        echo "ok $count - $1 is $2, compared with $3"
    else
        echo "not ok $count - $1 is $2, compared with $3"
        printf '  ---\n  found: %s\n  ...\n' "$found"
        failed=1
    fi
}

compare 1.2.0 same 1.2.0
compare 1.2.0 older 1.3.0
compare 2.0.0 newer 1.9.9
echo "1..$count"
exit "$failed"

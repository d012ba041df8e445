#!/bin/sh
# Water that flows through a borehole, m^3/yr (Harper and Gupta 1983): stands for any program that takes hours.
# usage: borehole.sh rw r Tu Hu Tl Hl L Kw
exec awk -v rw="$1" -v r="$2" -v Tu="$3" -v Hu="$4" -v Tl="$5" -v Hl="$6" -v L="$7" -v Kw="$8" 'BEGIN {
    if (rw <= 0) { print "the radius is negative" > "/dev/stderr"; exit 2 }
    ln = log(r / rw)
    printf "%.17g\n", 2 * 3.141592653589793 * Tu * (Hu - Hl) / (ln * (1 + 2 * L * Tu / (ln * rw * rw * Kw) + Tu / Tl))
}'

# Penstock's step wrapper: runs the steps of one segment, one after the other, inside the job's container.
#
# Started as `busybox sh wrapper.sh CONTROL [nnp]` by the container's init; everything it needs comes from the same
# static busybox, so that nothing is asked of the image. docs/engine.md describes the files in CONTROL; all of them are
# made in advance by the node's worker, so that neither a full disk nor a user without rights can stop a record.
B=/.penstock/bin/busybox
C=$1
# Below API 1.44 Swarm cannot set "no new privileges" on a service, so it is set here, before anything else runs.
if [ "$2" = nnp ]; then exec "$B" setpriv --nnp "$B" sh "$0" "$C"; fi

pgid=
stopping=0
timed_out=0
segment_timed_out=0
on_term() {
  if [ "$stopping" = 0 ]; then
    stopping=1
    [ -z "$recording" ] || echo "term ." >&3
  fi
  [ -z "$pgid" ] || kill -TERM "-$pgid" 2>/dev/null
}
on_limit() {
  timed_out=1
  [ -z "$pgid" ] || kill -TERM "-$pgid" 2>/dev/null
}
on_segment_limit() {
  segment_timed_out=1
  on_limit
}
on_kill() { [ -z "$pgid" ] || kill -KILL "-$pgid" 2>/dev/null; }
recording=
trap on_term TERM INT
trap on_limit USR1
trap on_kill USR2
trap on_segment_limit ALRM

# The worker makes the gate last, when everything else is in place.
while [ ! -p "$C/gate" ]; do
  [ "$stopping" = 0 ] || exit 143
  "$B" usleep 10000
done
exec 3<>"$C/journal"
recording=1
echo "wait ." >&3
go=
while [ "$go" != go ]; do
  # In the background, because a trap runs at once only while the shell waits.
  "$B" head -c 3 <"$C/gate" 3<&- 1<>"$C/go" &
  wait $!
  if [ "$stopping" = 1 ]; then
    echo "finish ." >&3
    exit 143
  fi
  go=
  read -r go <"$C/go"
done
echo "open ." >&3

# count, first, grace, limit (seconds for all steps), step_limit_N
. "$C/job"
shell=/bin/sh
[ -x /bin/sh ] || shell=

# A time limit lives in a session of its own, so that it can be ended with its sleep. It looks at the clock, because the
# step may end every `sleep` there is (`killall sleep`).
LIMIT='
rest() { # until
  read -r now _ </proc/uptime
  left=$(($1 - ${now%%.*}))
}
nap() { # seconds
  rest 0
  until=$(($1 - left))
  while rest "$until" && [ "$left" -gt 0 ]; do sleep "$left"; done
}
nap "$1"; kill -"$2" "$3"; nap "$4"; kill -USR2 "$3"'
start_limit() { # signal seconds
  "$B" setsid "$B" sh -c "$LIMIT" limit "$2" "$1" $$ "$grace" \
    3<&- </dev/null >/dev/null 2>&1 &
  limit_pid=$!
}
limit_pid=
segment_limit_pid=
if [ "$limit" -gt 0 ]; then
  start_limit ALRM "$limit"
  segment_limit_pid=$limit_pid
fi

# Copies the step's pipe (fd 5) to its log (fd 7). If that ends before the pipe does (write error, or the wrapper cut it
# off), the rest is still read away: whoever writes must neither block nor die. `logger` tells the wrapper where it is.
log_pipe() {
  "$B" dd bs=64k status=none <&5 >&7 2>&9 &
  echo "$! ." 1<>"$C/logger"
  wait $!
  code=$?
  [ "$code" = 0 ] && return 0
  echo "failed .             " 1<>"$C/logger"
  lost=$("$B" wc -c <&5)
  echo "failed $lost ." 1<>"$C/logger"
  return "$code"
}

# State of a process: R, S, D, Z ..., or nothing.
process_state() {
  state=
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
  line=${line##*) }
  state=${line%% *}
}

log_position() {
  read -r _ position <"/proc/$$/fdinfo/7"
}

# When the step's process has ended, its output may still be in the pipe, and background processes may hold the pipe
# open. A copier asleep in its read has emptied the pipe: whatever the step wrote is in the file then.
finish_log() {
  error=-
  lost=0
  log_position
  enough=$((position + 1179648))
  cut=0
  while :; do
    process_state "$log_pid"
    if [ -z "$state" ] || [ "$state" = Z ]; then
      wait "$log_pid"
      [ $? = 0 ] && break
    fi
    copier= mark= third=
    read -r copier mark third <"$C/logger"
    if [ "$copier" = failed ]; then
      if [ "$cut" = 1 ]; then break; fi
      # A write failed. Its block is lost; what came after it is counted if the pipe ends.
      patience=$((${patience:-0} + 1))
      if [ "$third" = . ] || [ "$patience" -gt 50 ]; then
        [ "$third" = . ] && lost=$mark
        lost=$((lost + 1))
        read -r error <"$C/logger-error"
        error=${error##*: }
        break
      fi
    elif [ "$mark" = . ] && [ "$cut" = 0 ]; then
      log_position
      before=$position
      process_state "$copier"
      [ "$state" = S ] && process_state "$copier"
      log_position
      if { [ "$state" = S ] && [ "$before" = "$position" ]; } || [ "$position" -gt "$enough" ]; then
        cut=1
        kill -KILL "$copier" 2>/dev/null
      fi
    fi
    "$B" usleep 1000
  done
  patience=0
  log_position
}

EMPTY=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
result=0
i=0
while [ "$i" -lt "$count" ]; do
  [ "$stopping" = 0 ] && [ "$segment_timed_out" = 0 ] || break
  n=$((first + i))
  timed_out=0
  exec 6<>"$C/pipe.$n"
  exec 5<"$C/pipe.$n"
  # Appending, so that a log that the step shortens stays shorter and is found out.
  exec 7>>"$C/log.$n"
  exec 8<"$C/log.$n"
  exec 9<>"$C/logger-error"
  echo "start $n ." >&3
  echo "                        " 1<>"$C/logger"
  # With `exec`, because a redirection of a function keeps a copy of what it replaces: the pipe would never end.
  {
    exec 3<&- 6>&- 8<&- </dev/null >/dev/null 2>&1
    log_pipe
  } &
  log_pid=$!
  if [ -n "$shell" ]; then
    "$B" setsid "$shell" "$C/step.$n" </dev/null >&6 2>&6 3<&- 5<&- 6>&- 7>&- 8<&- 9>&- &
  else
    "$B" setsid "$B" sh "$C/step.$n" </dev/null >&6 2>&6 3<&- 5<&- 6>&- 7>&- 8<&- 9>&- &
  fi
  pgid=$!
  exec 6>&-
  eval "step_limit=\$step_limit_$n"
  limit_pid=
  if [ "$step_limit" -gt 0 ]; then start_limit USR1 "$step_limit"; fi
  # A signal that came before there was a group to send it to.
  if [ "$stopping" = 1 ] || [ "$timed_out" = 1 ]; then kill -TERM "-$pgid" 2>/dev/null; fi
  while :; do
    wait "$pgid"
    code=$?
    # `wait` also ends when a trap ran; the step has ended when its process is gone.
    [ "$code" -gt 128 ] || break
    kill -0 "$pgid" 2>/dev/null || break
  done
  group=$pgid
  pgid=
  [ -z "$limit_pid" ] || kill -KILL "-$limit_pid" 2>/dev/null
  # A time limit and a stop end the whole group, not only its first process.
  if [ "$timed_out" = 1 ] || [ "$stopping" = 1 ]; then kill -KILL "-$group" 2>/dev/null; fi
  finish_log
  if [ "$position" = 0 ]; then sum=$EMPTY; else
    sum=$("$B" sha256sum <&8 3<&-)
    sum=${sum%% *}
  fi
  echo "end $n $code $timed_out $((position + lost)) $position $sum $error ." >&3
  exec 5<&- 7>&- 8<&- 9>&-
  if [ "$code" != 0 ] || [ "$timed_out" = 1 ]; then
    result=$code
    # 126 and above stay free for what happens to the container itself.
    if [ "$result" = 0 ] || [ "$result" -gt 125 ]; then result=1; fi
    break
  fi
  i=$((i + 1))
done
[ -z "$segment_limit_pid" ] || kill -KILL "-$segment_limit_pid" 2>/dev/null
echo "finish ." >&3
exit "$result"

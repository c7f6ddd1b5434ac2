/* SPDX-License-Identifier: MIT */
/*
 * wait.pml - who waits for a slot gets one: src/slab/wait.c, for spin.
 *
 *     models/check_wait             all of the runs below, in seconds
 *
 * PROCS threads take and give back one of SLOTS slots, STEPS times each.  Free
 * slots lie in the stock, under the lock, or in pockets, of which each thread
 * has one that it exchanges out and back and that others may take whole.  Who
 * finds nothing queues up, searches, and sleeps.
 *
 * A step under the lock is one step of the model: there the lock orders all.
 * What is read without the lock is modelled as weakly as C allows: the word
 * that tells of waiters (`seen`) and a pocket that was put back (`back`) are
 * known to their writer at once and to others whenever the process `memory`
 * gets to it, unless a fence comes first.
 *
 * Claims:
 *
 *   W1  Nobody sleeps for ever: the model has no other way to get stuck, and a
 *       stuck state is an error (invalid end state).
 *   W2  A slot is in one place: with all given back, all are free.
 *   W3  Who calls after another is in the queue, with its fence behind it, takes
 *       no slot before that one has been served.
 *
 * Wrong variants, each of which spin must show to leave a sleeper behind:
 *
 *   NO_FENCE_PUT  the pocket goes back by a plain store
 *   NO_FENCE_GET  no fence between queueing up and searching
 *   SCAN_FIRST    searching before queueing up
 *   NO_LOOK       no look at who waits after the pocket is back
 *
 * and one that breaks W3:
 *
 *   NO_TURN       who comes does not look whether others wait
 */

#ifndef PROCS
#define PROCS 3
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef STEPS
#define STEPS 2
#endif
#define POCKET 2 /* slots in one */

byte stock = SLOTS;
byte pocket[PROCS];   /* as others see it; 0 while it is out */
byte back[PROCS];     /* a store to it that is under way */
bool storing[PROCS];
chan queue = [PROCS] of { byte };
bool waits[PROCS];    /* in the queue: known under the lock */
bool seen[PROCS];     /* ... and without */
bool settled[PROCS];  /* ... with the fence behind it */
byte ticket[PROCS];   /* how often the thread has queued up */
bool given[PROCS];
byte done;

proctype memory()
{
	byte i;
end:
	do
	:: d_step { storing[0] -> pocket[0] = back[0]; storing[0] = false }
	:: d_step { storing[1] -> pocket[1] = back[1]; storing[1] = false }
	:: d_step { waits[0] && !seen[0] -> seen[0] = true }
	:: d_step { waits[1] && !seen[1] -> seen[1] = true }
#if PROCS > 2
	:: d_step { storing[2] -> pocket[2] = back[2]; storing[2] = false }
	:: d_step { waits[2] && !seen[2] -> seen[2] = true }
#endif
	:: done == PROCS -> break
	od
}

/* Does the thread see anybody wait?  Its own store it always sees. */
inline look()
{
	d_step {
		attention = waits[self];
		i = 0;
		do
		:: i < PROCS ->
			attention = attention || (waits[i] && seen[i]);
			i++
		:: else -> break
		od;
		i = 0
	}
}

inline pocket_out()
{
	d_step {
		if
		:: storing[self] -> pocket[self] = back[self];
			storing[self] = false
		:: else
		fi;
		count = pocket[self];
		pocket[self] = 0
	}
}

inline pocket_back()
{
#ifdef NO_FENCE_PUT
	d_step { back[self] = count; storing[self] = true }
#else
	pocket[self] = count
#endif
}

/* Up to `want` slots of the stock, else all of another's pocket. */
inline find(want)
{
	d_step {
		found = (stock < want -> stock : want);
		stock = stock - found
	}
	i = 0;
	do
	:: found == 0 && i < PROCS ->
		d_step { found = pocket[i]; pocket[i] = 0; i++ }
	:: else -> break
	od;
	if
	:: found == 0 ->
		d_step {
			found = (stock < want -> stock : want);
			stock = stock - found
		}
	:: else
	fi;
	i = 0
}

/* One slot goes to the oldest waiter, or rests. */
inline settle()
{
	d_step {
		if
		:: queue?[next] ->
			queue?next;
			waits[next] = false;
			seen[next] = false;
			settled[next] = false;
			given[next] = true
		:: else -> stock++
		fi;
		next = 0
	}
}

inline serve()
{
	look();
	do
	:: attention ->
		find(1);
		if
		:: found == 0 -> break
		:: else
		fi;
		/* Of a pocket, all but one rest. */
		d_step { stock = stock + found - 1; found = 0 }
		settle();
		look()
	:: else -> break
	od;
	attention = false
}

inline turn()
{
#ifdef SCAN_FIRST
	find(1);
	if
	:: found > 0 ->
		d_step { stock = stock + found - 1; found = 0; has = true }
	:: else
	fi;
#endif
	if
	:: !has ->
		d_step { queue!self; waits[self] = true; ticket[self]++ }
#ifndef SCAN_FIRST
#ifndef NO_FENCE_GET
		d_step {
			seen[self] = waits[self];
			settled[self] = waits[self]
		}
#endif
		serve();
#endif
		d_step { given[self] -> given[self] = false; has = true }
	:: else
	fi
}

inline get()
{
	d_step {
		i = 0;
		do
		:: i < PROCS ->
			first[i] = (settled[i] -> ticket[i] : 0);
			i++
		:: else -> break
		od;
		i = 0
	}
#ifndef NO_TURN
	look();
#endif
	if
	:: !attention ->
		pocket_out();
		if
		:: count > 0 -> count--; has = true
		:: else ->
			find(POCKET);
			d_step { count = found; found = 0 }
			if
			:: count > 0 -> count--; has = true
			:: else
			fi
		fi;
		d_step {
			/* W3 */
			do
			:: i < PROCS ->
				assert(!has || !settled[i] ||
				       first[i] != ticket[i]);
				i++
			:: else -> break
			od;
			i = 0
		}
		pocket_back();
		count = 0;
		serve()
	:: else -> attention = false
	fi;
	if
	:: !has -> turn()
	:: else
	fi
}

inline put()
{
	look();
	if
	:: attention -> settle(); attention = false
	:: else ->
		pocket_out();
		if
		:: count == POCKET -> d_step { stock++; count-- }
		:: else
		fi;
		count++;
		pocket_back();
		count = 0;
#ifndef NO_LOOK
		serve()
#endif
	fi;
	has = false
}

proctype thread(byte self)
{
	byte step, i, count, found, next;
	byte first[PROCS]; /* the tickets of those who were there before */
	bool attention, has;

	do
	:: step < STEPS -> get(); put(); step++
	:: else -> break
	od;
	atomic {
		done++;
		if
		:: done == PROCS ->
			/* W2; a store under way counts as made. */
			found = stock;
			i = 0;
			do
			:: i < PROCS ->
				found = found +
				    (storing[i] -> back[i] : pocket[i]);
				i++
			:: else -> break
			od;
			assert(found == SLOTS)
		:: else
		fi
	}
}

init {
	atomic {
		run memory();
		run thread(0);
		run thread(1);
#if PROCS > 2
		run thread(2)
#endif
	}
}

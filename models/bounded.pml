/* SPDX-License-Identifier: MIT */
/*
 * bounded.pml - the algorithm of src/pools/bounded.c, for spin.
 *
 *     models/check bounded          all of the runs below, in seconds
 *
 * PROCS processes take and give objects of WORDS words with SPAN objects each,
 * STEPS calls each and at most HOLD objects at a time.  The words a call starts
 * at and the bit it picks are free choices, so every hint is covered.  A signal
 * handler that runs on top of a call is a process that runs while another does
 * not, and a killed one is a process that does not go on: both are among the
 * interleavings.
 *
 * Every load and every atomic operation is one step; what a caller knows in
 * between is old.  In the same step, and unseen by the algorithm, the model
 * keeps its books: who holds what, and what happened during whose call.
 *
 * Claims, in the model with BITMAP:
 *
 *   C1  An object is handed out only while nobody holds it.
 *   C2  Giving back an object one holds finds its bit clear: no false alarm.
 *   C3  In the end, with all given back, every object is free: none is lost.
 *   C4  A call looks at no word more than twice.
 *   C5  NULL, and an object was free from the call's start to its end: others
 *       have taken two objects of its word meanwhile.  (With C5, a call that
 *       nobody takes from meanwhile fails only if the pool was full at its
 *       start: otherwise an object free then is free all the time.)
 *   C6  A pass over the words finds nothing, and an object was free when it
 *       began: another call has taken an object of its word since.
 *
 * Wrong claims, of which spin must find the counter-example: they show that no
 * more can be promised, and that the right ones are not true for want of calls
 * that fail.
 *
 *   WRONG_FULL  NULL is returned only if the pool was full at some moment.
 *   WRONG_FREE  No object is free all through a call that fails.
 *   WRONG_ONCE  C5 holds with a single pass.
 *   WRONG_READ  C1 .. C3 hold if the bit is cleared by a load and a store.
 *
 * TREIBER replaces the pool by the list everybody writes first: a head, swung
 * to the successor read before.  The processes and C1 are the same, and C1
 * fails: between the read of the successor and the exchange others take two
 * objects and give the first one back (ABA).
 */

#ifndef WORDS
#define WORDS 2
#endif
#ifndef SPAN
#define SPAN 2
#endif
#ifndef PROCS
#define PROCS 2
#endif
#ifndef STEPS
#define STEPS 4
#endif
#ifndef HOLD
#define HOLD 2
#endif
#ifdef WRONG_ONCE
#define PASSES 1
#else
#define PASSES 2
#endif

#define OBJECTS (WORDS * SPAN) /* at most 8: sets of them are bytes */
#define ALL ((1 << OBJECTS) - 1)
#define WORD_ALL ((1 << SPAN) - 1)
#define NONE 255

#define OF_WORD(set, w) (((set) >> ((w) * SPAN)) & WORD_ALL)

/* ---- the books ---------------------------------------------------------- */

byte holder[OBJECTS]; /* how many hold it */
byte free_set = ALL;  /* as the atomic operations leave it */
byte done;

/* Of the call each process is in. */
bool calling[PROCS];
bool was_full[PROCS]; /* at some moment of the call */
byte always[PROCS];   /* objects free since its start */
byte at_pass[PROCS];  /* objects free when its pass began */

typedef words {
	byte taken[WORDS]; /* by others since the start, up to 2 */
	bool since[WORDS]; /* by others since the pass began */
}
words others[PROCS];

inline book_begin(me, i)
{
	calling[me] = true;
	was_full[me] = (free_set == 0);
	always[me] = free_set;
	at_pass[me] = free_set
	/* others[me] is zero: book_end */
}

/* A pass of process me found nothing; another one begins. */
inline book_pass(me, i)
{
	for (i : 0 .. WORDS - 1) {
		assert(OF_WORD(at_pass[me], i) == 0 ||
		    others[me].since[i]); /* C6 */
		others[me].since[i] = false
	}
	at_pass[me] = free_set
}

/* Object o was taken by process me. */
inline book_take(me, o, i)
{
	assert(holder[o] == 0); /* C1 */
	holder[o]++;
	free_set = free_set & ~(1 << o);
	for (i : 0 .. PROCS - 1) {
		if
		:: i != me && calling[i] ->
			always[i] = always[i] & ~(1 << o);
			was_full[i] = was_full[i] || free_set == 0;
			if
			:: others[i].taken[o / SPAN] < 2 ->
				others[i].taken[o / SPAN]++
			:: else
			fi;
			others[i].since[o / SPAN] = true
		:: else
		fi
	}
}

inline book_give(o)
{
	assert(holder[o] == 1);
	holder[o]--;
	free_set = free_set | (1 << o)
}

/* The call of process me returns o, or NONE. */
inline book_end(me, o, i)
{
	calling[me] = false;
	if
	:: o == NONE ->
#if defined(WRONG_FULL)
		assert(was_full[me]);
#elif defined(WRONG_FREE)
		assert(always[me] == 0);
#elif !defined(TREIBER)
		book_pass(me, i);
		for (i : 0 .. WORDS - 1) {
			assert(OF_WORD(always[me], i) == 0 ||
			    others[me].taken[i] == 2) /* C5 */
		}
#else
		skip
#endif
	:: else
	fi;
	/* One value outside of calls, so that the books add no states. */
	was_full[me] = false;
	always[me] = 0;
	at_pass[me] = 0;
	for (i : 0 .. WORDS - 1) {
		others[me].taken[i] = 0;
		others[me].since[i] = false
	}
}

/* ---- the pool ----------------------------------------------------------- */

#ifdef TREIBER

byte head = 0;
byte next[OBJECTS]; /* set up by init */

/* Here @at is the successor read; what is printed tells the counter-example. */
inline pool_take(me, got, seen, at, i)
{
	do
	:: atomic {
		if
		:: !calling[me] -> book_begin(me, i)
		:: else
		fi;
		seen = head;
		if
		:: seen == NONE -> book_end(me, got, i); break
		:: else -> printf("%d: head is %d\n", me, seen)
		fi
	   }
	   atomic {
		at = next[seen];
		printf("%d: its successor is %d\n", me, at)
	   }
	   atomic {
		if
		:: head == seen ->
			head = at;
			got = seen;
			printf("%d: head %d -> %d, took %d\n",
			    me, seen, at, got);
			book_take(me, got, i);
			book_end(me, got, i);
			break
		:: else
		fi
	   }
	od;
	atomic { at = 0; seen = 0 }
}

inline pool_give(me, o, seen)
{
	do
	:: atomic { seen = head; next[o] = seen }
	   atomic {
		if
		:: head == seen ->
			head = o;
			printf("%d: gave %d back\n", me, o);
			book_give(o);
			break
		:: else
		fi
	   }
	od;
	seen = 0
}

#else

byte word[WORDS]; /* set up by init; bit set: the object is free */

inline pool_take(me, got, seen, at, i)
{
	do
	:: atomic { /* the load, and what needs no other process */
		if
		:: looks == 0 ->
			book_begin(me, i);
			select(at : 0 .. WORDS - 1) /* the hint's word */
		:: looks == WORDS && PASSES == 2 -> book_pass(me, i)
		:: else
		fi;
		seen = word[at];
		looks++;
		assert(looks <= 2 * WORDS); /* C4: around, twice */
		if /* the hint's bit: any that was seen */
		:: seen & 1 -> pick = 0
		:: seen & 2 -> pick = 1
#if SPAN > 2
		:: seen & 4 -> pick = 2
#endif
#if SPAN > 3
		:: seen & 8 -> pick = 3
#endif
		:: seen == 0 -> pick = NONE
		fi;
#ifndef WRONG_READ
		seen = 0;
#endif
		if
		:: pick != NONE
		:: pick == NONE && looks < PASSES * WORDS ->
			at = (at + 1) % WORDS
		:: pick == NONE && looks == PASSES * WORDS ->
			book_end(me, got, i);
			break
		fi
	   }
	   if
	   :: pick != NONE ->
		atomic { /* clear the bit; was it set? */
#ifndef WRONG_READ
			seen = word[at];
#endif
			word[at] = seen & ~(1 << pick);
			if
			:: seen & (1 << pick) ->
				got = at * SPAN + pick;
				book_take(me, got, i)
			:: else
			fi;
			seen = 0;
			pick = 0;
			if
			:: got != NONE || looks == PASSES * WORDS ->
				book_end(me, got, i);
				break
			:: else -> at = (at + 1) % WORDS
			fi
		}
	   :: else
	   fi
	od;
	atomic { at = 0; pick = 0; looks = 0 }
}

inline pool_give(me, o, seen)
{
	d_step { /* set it; was it clear? */
		assert((word[o / SPAN] & (1 << (o % SPAN))) == 0); /* C2 */
		word[o / SPAN] = word[o / SPAN] | (1 << (o % SPAN));
		book_give(o)
	}
}

#endif

/* ---- its users ---------------------------------------------------------- */

proctype user(byte me)
{
	byte mine[HOLD], held = 0, steps = 0;
	byte got = NONE, seen = 0, at = 0, i = 0, pick = 0, looks = 0;

	do
	:: steps < STEPS && held < HOLD ->
		steps++;
		pool_take(me, got, seen, at, i);
		d_step {
			if
			:: got != NONE -> mine[held] = got; held++
			:: else
			fi;
			got = NONE
		}
	:: steps < STEPS && held > 0 -> /* the newest */
		d_step { steps++; held--; got = mine[held]; mine[held] = 0 }
		pool_give(me, got, seen);
		got = NONE
	:: steps < STEPS && held > 1 -> /* the oldest */
		d_step {
			steps++;
			got = mine[0];
			held--;
			mine[0] = mine[held];
			mine[held] = 0
		}
		pool_give(me, got, seen);
		got = NONE
	:: steps == STEPS -> break
	od;
	do
	:: held > 0 ->
		d_step { held--; got = mine[held]; mine[held] = 0 }
		pool_give(me, got, seen);
		got = NONE
	:: else -> break
	od;
	done++
}

init
{
	byte i;

	atomic {
#ifdef TREIBER
		for (i : 0 .. OBJECTS - 1) {
			next[i] = (i + 1 < OBJECTS -> i + 1 : NONE)
		}
#else
		for (i : 0 .. WORDS - 1) { word[i] = WORD_ALL }
#endif
		for (i : 0 .. PROCS - 1) { run user(i) }
	}
	done == PROCS; /* which every run reaches, or it is an invalid end */
	d_step {
		assert(free_set == ALL); /* C3: by the books, and in fact */
#ifndef TREIBER
		for (i : 0 .. WORDS - 1) { assert(word[i] == WORD_ALL) }
#endif
	}
}

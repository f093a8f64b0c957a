//go:build gc && !purego

#include "textflag.h"

// func walk(pcs []uintptr) int
//
// Every word that is read through a frame pointer lies in [R5, g.stack.hi), and R5, which begins one word below the
// caller's RSP, where its record is, only grows.
TEXT ·walk(SB), NOSPLIT|NOFRAME, $0-32
	MOVD pcs_base+0(FP), R0
	MOVD pcs_len+8(FP), R1
	MOVD ZR, R2             // how many have been found
	MOVD 0(g), R3           // g begins with the bounds of its stack: lo, hi
	MOVD 8(g), R4
	SUB  $16, R4            // the highest place at which a record may be
	MOVD RSP, R5
	SUB  $8, R5             // the lowest
	CMP  R3, R5
	BLO  done               // below lo: that is no g
	MOVD R29, R6            // the record of the function that called this one: its caller's R29, its return address

next:
	CMP  R1, R2
	BGE  done
	CMP  R5, R6
	BLO  done
	CMP  R4, R6
	BHI  done
	TST  $7, R6
	BNE  done
	LDP  (R6), (R7, R8)
	MOVD R8, (R0)(R2<<3)
	ADD  $1, R2
	ADD  $16, R6, R5
	MOVD R7, R6
	B    next

done:
	MOVD R2, ret+24(FP)
	RET

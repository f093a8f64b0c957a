//go:build gc && !purego

#include "textflag.h"

// func walk(pcs []uintptr) int
//
// Every word that is read through a frame pointer lies in [BX, g.stack.hi), and BX, which begins at SP, only grows.
TEXT ·walk(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ pcs_base+0(FP), DI
	MOVQ pcs_len+8(FP), SI
	XORQ CX, CX             // how many have been found
	MOVQ (TLS), AX          // g begins with the bounds of its stack: lo, hi
	MOVQ SP, BX             // the lowest place at which the next record may be
	CMPQ BX, 0(AX)
	JLO  done               // SP below lo: that is no g
	MOVQ 8(AX), DX
	SUBQ $16, DX            // the highest
	MOVQ BP, AX             // the record of the function that called this one: its caller's BP, its return address

next:
	CMPQ  CX, SI
	JGE   done
	CMPQ  AX, BX
	JLO   done
	CMPQ  AX, DX
	JHI   done
	TESTQ $7, AX
	JNE   done
	MOVQ  8(AX), R8
	MOVQ  R8, (DI)(CX*8)
	INCQ  CX
	LEAQ  16(AX), BX
	MOVQ  (AX), AX
	JMP   next

done:
	MOVQ CX, ret+24(FP)
	RET

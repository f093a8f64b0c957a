//go:build gc && !purego

#include "textflag.h"

// func ID() uint64
TEXT ·ID(SB), NOSPLIT|NOFRAME, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET

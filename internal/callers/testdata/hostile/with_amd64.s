#include "textflag.h"
#include "funcdata.h"

// func with(bp uintptr, f func())
TEXT ·with(SB), 0, $16-16
	NO_LOCAL_POINTERS
	MOVQ bp+0(FP), BP // the caller's has been saved, and is restored at the end
	MOVQ f+8(FP), DX
	MOVQ (DX), AX
	CALL AX
	RET

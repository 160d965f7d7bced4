/* The interface as a C11 plugin sees it: this file only has to compile, with -Wpedantic -Werror. */
#include "plugins/moira_plugin.h"

#define MOIRA_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " changed its size");
#define MOIRA_AT(type, field, bytes) _Static_assert(offsetof(type, field) == (bytes), #type "." #field " moved");
#include "tests/plugins/abi_layout.inc"
#undef MOIRA_SIZE
#undef MOIRA_AT

/* Enumerations of the border travel as 32-bit numbers; their values are pinned too. */
_Static_assert(MOIRA_DEVICE_LOST == 6 && MOIRA_ERROR_PAGE_OUT_OF_RANGE == 4 && MOIRA_ERROR_INJECTED == 100, "codes");
_Static_assert(MOIRA_TYPE_F32 == 0 && MOIRA_TYPE_BF16 == 1 && MOIRA_TYPE_F8_E4M3 == 3 && MOIRA_TYPE_F4_E2M1 == 5, "types");
_Static_assert(MOIRA_OP_EMBEDDING == 0 && MOIRA_OP_GEMM == 6 && MOIRA_OP_EXPERT_FFN == 8 && MOIRA_OP_EXPERT_GROUPS == 10 && MOIRA_OP_COUNT == 11, "ops");
_Static_assert(MOIRA_CPU_AVX2_FMA_F16C == 1 && MOIRA_CPU_AVX512_VNNI == 16, "processor features");
_Static_assert(sizeof(moira_status) == 4, "status");

/* Called by the C++ side, to prove that both languages link against one set of types. */
uint64_t moira_abi_c11_api_bytes(void);
uint64_t moira_abi_c11_api_bytes(void) { return sizeof(moira_plugin_api); }

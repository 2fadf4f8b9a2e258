/* The header alone, included first and twice, as strict C11. */
#include "patchmask.h"
#include "patchmask.h"

#include <stdio.h>

int main(void) {
    patchmask_status (*cancel)(patchmask_session*) = patchmask_session_cancel;
    printf("ok header_in_c %d\n", cancel != NULL && patchmask_version()[0] != '\0');
    return 0;
}

/* A disk that hangs: with LD_PRELOAD, fsync and fdatasync do not return while the file HANG_FLAG exists.

   The first call that hangs creates the file HANG_FLAG.entered. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void hang(void)
{
    const char *flag = getenv("HANG_FLAG");
    char entered[4096];

    if (flag == NULL || access(flag, F_OK) != 0)
        return;
    snprintf(entered, sizeof entered, "%s.entered", flag);
    close(open(entered, O_CREAT | O_WRONLY, 0600));
    while (access(flag, F_OK) == 0)
        usleep(10000);
}

int fsync(int descriptor)
{
    static int (*real)(int);

    hang();
    if (real == NULL)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(descriptor);
}

int fdatasync(int descriptor)
{
    static int (*real)(int);

    hang();
    if (real == NULL)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(descriptor);
}

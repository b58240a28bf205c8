/* Load that nothing in Debian makes: tunnels opened, filled and counted, at little cost of its own.
 *
 *   tunnels [-PROCESSES] serve|open|fill|hold|wait ...
 *
 *   tunnels serve PORT
 *       Answers "G..." with a small HTTP answer and closes; "B" with zeros until hung up on; any
 *       other byte with itself.
 *   tunnels open ADDRESS PORT TARGET SECONDS AT_ONCE [RATE]
 *       One connection after the other in AT_ONCE places: CONNECT to TARGET (none if it is "-"),
 *       a request, its answer up to the end of the stream. A TARGET that is a whole URL is asked of
 *       the proxy itself, without a tunnel. With RATE, so many a second begin at even times, and
 *       what one took is counted from when it was due, so that a stall shows in all it held up.
 *   tunnels fill ADDRESS PORT TARGET SECONDS STREAMS
 *       Reads what the server's zeros bring, and drops it in the kernel (MSG_TRUNC).
 *   tunnels hold ADDRESS PORT TARGET COUNT...
 *       Opens tunnels, a byte there and back in each, and says "held COUNT" at each count; then
 *       stays.
 *   tunnels wait ADDRESS PORT SECONDS
 *       Ends when the port accepts a connection, or with 1 after so many seconds.
 *
 * `serve`, `open` and `fill` are so many processes, one for each processor if nothing else is said:
 * a single one is at its end where the kernel's forwarding is not. The kernel deals a server's
 * connections out among its processes (SO_REUSEPORT); places, streams and RATE are shared out.
 *
 * One JSON object on standard output: what was done each second, how long the middle and the slowest
 * hundredth took (ms), what failed, and the processor time of all these processes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING, ASKING, OPEN, FILLING };
enum { DESCRIPTORS = 1 << 16, EVENTS = 256, CHUNK = 1 << 20, TIMES = 1 << 20 };

struct found { /* what one process of a load leaves in memory that all share */
    double rate;
    long done, failed;
    float times[TIMES];
};

static int state[DESCRIPTORS];
static double began[DESCRIPTORS];
static char scratch[CHUNK];
static const char REQUEST[] = "GET /small HTTP/1.0\r\nHost: x\r\n\r\n";
static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poll, int how, int descriptor, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(poll, how, descriptor, &event) < 0) die("epoll_ctl");
}

static pid_t forked(void) {
    pid_t parent = getpid(), child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
    }
    return child;
}

static struct sockaddr_in endpoint(const char *address, int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &where.sin_addr) != 1) die("address");
    return where;
}

static int listening(int port) {
    struct sockaddr_in where = endpoint("0.0.0.0", port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (void *)&where, sizeof where) < 0 || listen(listener, 4096) < 0) die("bind");
    return listener;
}

static void serve(int listener) {
    int zeros = memfd_create("zeros", 0), poll = epoll_create1(0);
    if (ftruncate(zeros, CHUNK) < 0) die("ftruncate");
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int peer = events[i].data.fd;
            if (peer == listener) {
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    state[peer] = OPEN;
                    watch(poll, EPOLL_CTL_ADD, peer, EPOLLIN);
                }
                continue;
            }
            if (state[peer] == FILLING) {
                off_t from = 0;
                if (sendfile(peer, zeros, &from, CHUNK) < 0 && errno != EAGAIN) close(peer);
                continue;
            }
            ssize_t got = recv(peer, scratch, 4096, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got > 0 && scratch[0] == 'B') {
                state[peer] = FILLING;
                watch(poll, EPOLL_CTL_MOD, peer, EPOLLOUT);
            } else if (got > 0 && scratch[0] != 'G') {
                if (send(peer, scratch, 1, MSG_NOSIGNAL) < 0) close(peer);
            } else {
                if (got > 0 && send(peer, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) got = -1;
                close(peer);
            }
        }
    }
}

static void serve_all(int port, int processes) {
    int listeners[processes];
    pid_t children[processes];
    sigset_t ends;
    for (int i = 0; i < processes; i++) listeners[i] = listening(port);
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    for (int i = 0; i < processes; i++) {
        if ((children[i] = forked())) continue;
        for (int other = 0; other < processes; other++)
            if (other != i) close(listeners[other]);
        serve(listeners[i]);
    }
    for (int i = 0; i < processes; i++) close(listeners[i]);
    puts("ready");
    fflush(stdout);
    sigwaitinfo(&ends, NULL);
    for (int i = 0; i < processes; i++) kill(children[i], SIGKILL);
    while (wait(NULL) > 0) continue; /* the port is free when this process is gone */
}

static void begin(int poll, const struct sockaddr_in *where, double due) {
    int on = 1, peer = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (peer < 0 || peer >= DESCRIPTORS) die("socket");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(peer, (const void *)where, sizeof *where) < 0 && errno != EINPROGRESS)
        die("connect");
    state[peer] = CONNECTING;
    began[peer] = due;
    watch(poll, EPOLL_CTL_ADD, peer, EPOLLOUT);
}

static int ascending(const void *one, const void *other) {
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static int opening_of(const char *target, char *opening, int size) {
    if (!strcmp(target, "-")) return 0;
    return snprintf(opening, size, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
}

static void load(const struct sockaddr_in *where, const char *target, double started,
                 double seconds, int places, int filling, double rate, double offset,
                 struct found *found) {
    char opening[1024] = "", asked[1024];
    int poll = epoll_create1(0), url = !strncmp(target, "http://", 7);
    int length = url ? 0 : opening_of(target, opening, sizeof opening), tunnel = length > 0;
    long done = 0, failed = 0, started_ones = 0;
    double bytes = 0, end = started + seconds, at = started;
    const char *first = filling ? "B" : REQUEST;
    if (url) {
        int host = strcspn(target + 7, "/");
        snprintf(asked, sizeof asked, "GET %s HTTP/1.0\r\nHost: %.*s\r\n\r\n", target, host,
                 target + 7);
        first = asked;
    }
    for (int i = 0; i < places && !rate; i++) begin(poll, where, now());
    while ((at = now()) < end) {
        struct epoll_event events[EVENTS];
        double due = started + offset + started_ones / (rate ? rate : 1);
        while (rate && due <= at && started_ones - done - failed < places) {
            begin(poll, where, due);
            due = started + offset + ++started_ones / rate;
        }
        int count = epoll_wait(poll, events, EVENTS, rate ? 1 : 100);
        for (int i = 0; i < count; i++) {
            int peer = events[i].data.fd, whole = 0;
            ssize_t got = 0;
            if (state[peer] == CONNECTING) {
                const char *said = tunnel ? opening : first;
                long size = tunnel ? length : (long)strlen(first);
                got = send(peer, said, size, MSG_NOSIGNAL);
                state[peer] = tunnel ? ASKING : OPEN;
                if (got == size) {
                    watch(poll, EPOLL_CTL_MOD, peer, EPOLLIN);
                    continue;
                }
            } else if (filling && state[peer] == OPEN) {
                got = recv(peer, scratch, CHUNK, MSG_TRUNC);
                if (got > 0) bytes += got;
                if (got > 0 || (got < 0 && errno == EAGAIN)) continue;
            } else {
                got = recv(peer, scratch, 65536, 0);
                if (got < 0 && errno == EAGAIN) continue;
                if (state[peer] == ASKING) {
                    int sound = got > 12 && memcmp(scratch + 9, "200", 3) == 0;
                    if (sound && send(peer, first, strlen(first), MSG_NOSIGNAL) > 0) {
                        state[peer] = OPEN;
                        continue;
                    }
                } else if (got > 0) {
                    state[peer] = FILLING; /* something of the answer is there */
                    continue;
                } else {
                    whole = got == 0 && state[peer] == FILLING;
                }
            }
            if (whole && done < TIMES) found->times[done] = (now() - began[peer]) * 1e3;
            whole ? done++ : failed++;
            close(peer);
            if (!rate) begin(poll, where, now());
        }
    }
    found->rate = (filling ? bytes : done) / (at - started);
    found->done = done;
    found->failed = failed;
}

static void report(struct found *all, int processes) {
    struct rusage used;
    struct found sum = {0};
    long kept = 0;
    float *times = all->times; /* those of the others are moved up behind the first one's */
    for (int i = 0; i < processes; i++) {
        long some = all[i].done < TIMES ? all[i].done : TIMES;
        sum.rate += all[i].rate;
        sum.failed += all[i].failed;
        memmove(times + kept, all[i].times, some * sizeof *times);
        kept += some;
    }
    getrusage(RUSAGE_CHILDREN, &used);
    qsort(times, kept, sizeof *times, ascending);
    printf("{\"rate\": %.3f, \"failed\": %ld, \"p50\": %.4f, \"p99\": %.4f, \"own_cpu_s\": %.3f}\n",
           sum.rate, sum.failed, kept ? times[kept / 2] : 0, kept ? times[kept * 99 / 100] : 0,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec +
               (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static int load_all(const struct sockaddr_in *where, const char *target, double seconds, int places,
                    int filling, double rate, int processes) {
    if (processes > places) processes = places;
    struct found *all = mmap(NULL, processes * sizeof *all, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) die("mmap");
    double started = now();
    for (int i = 0; i < processes; i++) {
        if (forked()) continue;
        int share = places * (i + 1) / processes - places * i / processes;
        load(where, target, started, seconds, share, filling, rate / processes,
             rate ? i / rate : 0, &all[i]);
        _exit(0);
    }
    for (int status; wait(&status) > 0;)
        if (status) return 1; /* it said why; the others end with this process */
    report(all, processes);
    return 0;
}

static int patient(const struct sockaddr_in *where) {
    struct timeval limit = {.tv_sec = 20};
    int on = 1, peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0) die("socket");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(peer, (const void *)where, sizeof *where) == 0) return peer;
    close(peer);
    return -1;
}

static void hold(const struct sockaddr_in *where, const char *target, int counts, char **words) {
    char opening[1024];
    int length = opening_of(target, opening, sizeof opening), held = 0;
    for (int i = 0; i < counts; i++) {
        for (; held < atoi(words[i]); held++) {
            int peer = patient(where);
            if (peer < 0) die("connect");
            if (length) {
                send(peer, opening, length, MSG_NOSIGNAL);
                ssize_t got = 0;
                scratch[0] = 0;
                while (!strstr(scratch, "\r\n\r\n")) {
                    ssize_t more = recv(peer, scratch + got, 4095 - got, 0);
                    if (more <= 0) die("CONNECT");
                    scratch[got += more] = 0;
                }
                if (memcmp(scratch + 9, "200", 3)) die("CONNECT was refused");
            }
            if (send(peer, "H", 1, MSG_NOSIGNAL) != 1 || recv(peer, scratch, 1, 0) != 1)
                die("echo");
        }
        printf("held %d \n", held);
        fflush(stdout);
    }
    pause();
}

static int await_port(const struct sockaddr_in *where, double seconds) {
    double end = now() + seconds;
    while (now() < end) {
        if (patient(where) >= 0) return 0;
        usleep(2000);
    }
    return 1;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit all;
    getrlimit(RLIMIT_NOFILE, &all);
    all.rlim_cur = all.rlim_max;
    setrlimit(RLIMIT_NOFILE, &all);
    cpu_set_t processors;
    int processes = sched_getaffinity(0, sizeof processors, &processors) ? 1 : CPU_COUNT(&processors);
    if (count > 1 && words[1][0] == '-') {
        processes = atoi(words[1] + 1);
        count--;
        words++;
    }
    if (processes < 1) count = 0;
    if (count == 3 && !strcmp(words[1], "serve")) {
        serve_all(atoi(words[2]), processes);
        return 0;
    } else if (count >= 7 && (!strcmp(words[1], "open") || !strcmp(words[1], "fill"))) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        return load_all(&where, words[4], atof(words[5]), atoi(words[6]), words[1][0] == 'f',
                        count > 7 ? atof(words[7]) : 0, processes);
    } else if (count >= 6 && !strcmp(words[1], "hold")) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        hold(&where, words[4], count - 5, words + 5);
    } else if (count == 5 && !strcmp(words[1], "wait")) {
        struct sockaddr_in where = endpoint(words[2], atoi(words[3]));
        return await_port(&where, atof(words[4]));
    }
    fputs("usage: tunnels serve|open|fill|hold|wait ...; see the head of the source\n", stderr);
    return 2;
}

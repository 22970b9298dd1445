/* Clients: they ask the queries that come by standard input, so many at once, each on a connection of its own.
 *
 * Arguments: the port on the loopback, and how many ask at once. Input: the answer to all queries, and then each query,
 * each after its length in two bytes, the lower one first. It ends with 1, and says why, if an answer is another one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGEST = 65536, WAIT_MILLISECONDS = 60000 };

static unsigned char answer[LARGEST], query[LARGEST], received[LARGEST + 1];
static int polled, asking;
static struct sockaddr_in server;

static void fail(const char *why)
{
    perror(why);
    exit(1);
}

/* Read what comes next; return its length, or -1 at the end. */
static int next(unsigned char *into)
{
    int low = getchar(), high = getchar();
    if (low == EOF || high == EOF)
        return -1;
    int length = low + (high << 8);
    if (fread(into, 1, length, stdin) != (size_t)length)
        fail("the input ends early");
    return length;
}

/* Ask the next query; return whether there was one. */
static int ask(void)
{
    int length = next(query);
    if (length < 0)
        return 0;
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&server, sizeof server) < 0)
        fail("connect");
    if (send(client, query, length, MSG_NOSIGNAL) != length)
        fail("send");
    struct epoll_event event = {.events = EPOLLRDHUP, .data.fd = client}; /* once, when the answer is here to its end */
    if (epoll_ctl(polled, EPOLL_CTL_ADD, client, &event) < 0)
        fail("epoll_ctl");
    asking++;
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    int at_once = atoi(arguments[2]), expected = next(answer), more = 1;
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(arguments[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    polled = epoll_create1(EPOLL_CLOEXEC);
    for (int place = 0; place < at_once && more; place++)
        more = ask();
    while (asking) {
        struct epoll_event events[256];
        int ready = epoll_wait(polled, events, 256, WAIT_MILLISECONDS);
        if (ready < 1)
            fail("an answer does not come");
        for (int place = 0; place < ready; place++) {
            int client = events[place].data.fd, length = 0, taken;
            while ((taken = recv(client, received + length, sizeof received - length, 0)) > 0)
                length += taken;
            if (taken < 0)
                fail("recv");
            if (length != expected || memcmp(received, answer, length)) {
                fprintf(stderr, "a wrong answer: %.*s\n", length > 100 ? 100 : length, received);
                return 1;
            }
            close(client);
            asking--;
            more = more && ask();
        }
    }
    return 0;
}

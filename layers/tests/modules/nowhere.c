/* A library that a module needs and that is not found when it is opened; and an NVIDIA driver that nobody calls. */
int t2t_nowhere(void);
int t2t_nowhere(void)
{
    return 0;
}

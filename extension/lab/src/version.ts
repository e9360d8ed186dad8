/** Of the front end; the server has its own, and the panel says when they differ. */
export const VERSION = '0.1.0';
